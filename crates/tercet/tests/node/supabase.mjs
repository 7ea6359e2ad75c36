// Uses a schema of Supabase through its own client: node supabase.mjs URL ANON_KEY SERVICE_KEY ANNS_TOKEN
import assert from "node:assert/strict";

// createClient looks for it, as browsers and newer versions of Node have it.
globalThis.WebSocket ??= class {};
const { createClient } = await import("@supabase/supabase-js");

const [url, anonKey, serviceKey, annsToken] = process.argv.slice(2);
const quiet = { auth: { persistSession: false, autoRefreshToken: false } };
const anyone = createClient(url, anonKey, quiet);
const service = createClient(url, serviceKey, quiet);
const ann = createClient(url, anonKey, { ...quiet, global: { headers: { Authorization: `Bearer ${annsToken}` } } });

/** The data of an answer without an error. */
async function data(request) {
  const answer = await request;
  assert.equal(answer.error, null, JSON.stringify(answer.error));
  return answer.data;
}

assert.deepEqual((await data(anyone.from("profiles").select("full_name").order("full_name"))).length, 2);
assert.deepEqual(await data(anyone.from("todos").select()), []);
const denied = await anyone.from("todos").insert({ task: "not mine", user_id: "22222222-2222-2222-2222-222222222222" });
assert.equal(denied.error.code, "42501");

const mine = await data(ann.from("todos").insert({ task: "learn SQL" }).select().single());
assert.equal(mine.user_id, "11111111-1111-1111-1111-111111111111");
assert.deepEqual((await data(ann.from("todos").select("task"))).map(({ task }) => task), ["learn SQL"]);
assert.equal((await data(ann.from("profiles").update({ full_name: "Eve" }).neq("full_name", "Ann").select())).length, 0);

await data(service.from("todos").insert({ task: "for Ben", user_id: "22222222-2222-2222-2222-222222222222" }));
assert.equal((await data(service.from("todos").select())).length, 2);
assert.equal((await data(ann.from("todos").select())).length, 1);

assert.deepEqual(await data(ann.rpc("whoami")), {
  uid: "11111111-1111-1111-1111-111111111111",
  role: "authenticated",
  email: null,
  jwt: "authenticated",
});
assert.equal((await data(anyone.rpc("whoami", {}, { get: true }))).role, "anon");
console.log("all as expected");
