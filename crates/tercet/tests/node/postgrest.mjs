// Uses the atlas example through the client people have: node postgrest.mjs URL ANNS_TOKEN BENS_TOKEN
import assert from "node:assert/strict";
import { PostgrestClient } from "@supabase/postgrest-js";

const [url, annsToken, bensToken] = process.argv.slice(2);
const signedIn = (token) => new PostgrestClient(url, { headers: { authorization: `Bearer ${token}` } });
const anyone = new PostgrestClient(url);
const ann = signedIn(annsToken);
const ben = signedIn(bensToken);

/** The data of an answer without an error. */
async function data(request) {
  const answer = await request;
  assert.equal(answer.error, null, JSON.stringify(answer.error));
  return answer.data;
}

/** The SQLSTATE or PGRST code of an answer that must be an error of that status. */
async function refused(request, status) {
  const answer = await request;
  assert.equal(answer.status, status, JSON.stringify(answer));
  return answer.error.code;
}

// Reading: filters, order, ranges, counts, one row, embedding.
const large = await anyone
  .from("country")
  .select("code,area_km2", { count: "exact" })
  .eq("region", "Europe")
  .gt("area_km2", 400000)
  .order("area_km2", { ascending: false })
  .range(0, 1);
assert.equal(large.error, null);
assert.deepEqual(large.data.map(({ code }) => code), ["RU", "UA"]);
assert.equal(large.count, 5);

const switzerland = await data(
  anyone.from("country").select("name,capitals,language(code,name),currency(code)").eq("code", "CH").single(),
);
assert.equal(switzerland.name, "Switzerland");
assert.deepEqual(switzerland.capitals, ["Bern"]);
assert.deepEqual(switzerland.language.map(({ code }) => code).sort(), ["fra", "gsw", "ita", "roh"]);
assert.deepEqual(switzerland.currency, [{ code: "CHF" }]);

const around = await data(anyone.from("country").select("neighbours(code)").eq("code", "PT").single());
assert.deepEqual(around.neighbours, [{ code: "ES" }]);

const either = await data(anyone.from("country").select("code").or("code.eq.IS,name.ilike.*zealand").order("code"));
assert.deepEqual(either, [{ code: "IS" }, { code: "NZ" }]);

assert.equal(await refused(anyone.from("country").select("code").single(), 406), "PGRST116");
assert.equal(await refused(anyone.from("nowhere").select(), 404), "PGRST205");

// A view, and functions: with arguments in a body, and in the query string.
const oceania = await data(anyone.from("region_summary").select("independent").eq("region", "Oceania").single());
assert.equal(oceania.independent, 14);
const route = await data(anyone.rpc("route", { origin: "PT", destination: "DE" }));
assert.deepEqual(route.map(({ code }) => code), ["PT", "ES", "FR", "DE"]);
const found = await data(anyone.rpc("search", { query: "allem" }, { get: true }).select("name"));
assert.deepEqual(found, [{ name: "Germany" }]);

// Without a token nobody sees or writes visits; the atlas itself is nobody's to write.
assert.equal(await refused(anyone.from("visit").select(), 401), "42501");
assert.equal(await refused(anyone.from("visit").insert({ country: "IS" }), 401), "42501");
assert.equal(await refused(ann.from("country").delete().eq("code", "CH"), 403), "42501");

// Writing: one, many, what violates a constraint, change, remove, each with the rows that come back.
const iceland = await data(ann.from("visit").insert({ country: "IS", visited_on: "2024-06-21" }).select().single());
assert.equal(iceland.person, "ann");
const more = await data(
  ann.from("visit").insert([{ country: "JP" }, { country: "NZ", note: "far" }]).select("country,note"),
);
assert.deepEqual(more, [{ country: "JP", note: null }, { country: "NZ", note: "far" }]);
assert.equal(await refused(ann.from("visit").insert({ country: "ZZ" }), 409), "23503");
const changed = await data(ann.from("visit").update({ note: "midsummer" }).eq("id", iceland.id).select("note"));
assert.deepEqual(changed, [{ note: "midsummer" }]);

// Row-level security: Ben neither sees nor changes what is Ann's, and cannot write in her name.
assert.deepEqual(await data(ben.from("visit").select()), []);
assert.deepEqual(await data(ben.from("visit").update({ note: "mine" }).eq("id", iceland.id).select()), []);
assert.deepEqual(await data(ben.from("visit").delete().eq("id", iceland.id).select()), []);
assert.equal(await refused(ben.from("visit").insert({ country: "IS", person: "ann" }), 403), "42501");
const kept = await data(ann.from("visit").select("note,country(name)").eq("id", iceland.id).single());
assert.deepEqual(kept, { note: "midsummer", country: { name: "Iceland" } });

const seen = await data(ann.from("progress").select("region,visited").gt("visited", 0).order("region"));
assert.deepEqual(seen.map(({ region }) => region), ["Asia", "Europe", "Oceania"]);

const gone = await data(ann.from("visit").delete().gt("id", 0).select("country").order("country"));
assert.deepEqual(gone, [{ country: "IS" }, { country: "JP" }, { country: "NZ" }]);
assert.deepEqual(await data(ann.from("visit").select()), []);

console.log("all as expected");
