// Prints the atlas' data as SQL, from the npm package world-countries. See ../README.md.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const countries = require("world-countries/countries.json");
const { version } = require("world-countries/package.json");

/** A value as an SQL literal. */
function literal(value) {
  if (value === null || value === undefined || value === "") return "null";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return `array[${value.map(literal).join(", ")}]::text[]`;
  return `'${String(value).replaceAll("'", "''")}'`;
}

/** One INSERT for all rows, a row a line. */
function insert(table, columns, rows) {
  const lines = rows.map((row) => `(${row.map(literal).join(", ")})`);
  console.log(`insert into ${table} (${columns.join(", ")}) values\n${lines.join(",\n")};\n`);
}

/** Each key once, with the value that most countries give it: spellings differ here and there. */
function mostCommon(pairs) {
  const votes = new Map();
  for (const [key, value] of pairs) {
    const counts = votes.get(key) ?? new Map();
    const text = JSON.stringify(value);
    counts.set(text, (counts.get(text) ?? 0) + 1);
    votes.set(key, counts);
  }
  return [...votes]
    .map(([key, counts]) => [key, JSON.parse([...counts].sort((a, b) => b[1] - a[1])[0][0])])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

// The package names these by their bibliographic codes where it names languages by the terminological ones.
const terminological = { per: "fas" };
const byAlpha3 = new Map(countries.map((country) => [country.cca3, country.cca2]));
const languages = mostCommon(countries.flatMap((country) => Object.entries(country.languages)));
const known = new Set(languages.map(([code]) => code));

console.log(`-- Made by data/generate.mjs from the npm package world-countries ${version} (mledoze/countries),
-- Open Database License 1.0. Do not edit.
`);

const subregions = new Map(
  countries.map(({ region, subregion }) => [subregion || region, region]).sort(),
);
insert("region", ["name"], [...new Set(subregions.values())].sort().map((name) => [name]));
insert("subregion", ["name", "region"], [...subregions]);

insert(
  "country",
  [
    "code", "alpha3", "numeric", "name", "official_name", "capitals", "region", "subregion", "independent",
    "un_member", "landlocked", "area_km2", "latitude", "longitude", "flag", "calling_codes", "domains", "demonym",
  ],
  countries
    .map((country) => [
      country.cca2,
      country.cca3,
      country.ccn3,
      country.name.common,
      country.name.official,
      country.capital,
      country.region,
      country.subregion || country.region,
      country.independent,
      country.unMember,
      country.landlocked,
      country.area < 0 ? null : country.area,
      country.latlng[0],
      country.latlng[1],
      country.flag,
      country.idd.suffixes.map((suffix) => country.idd.root + suffix),
      country.tld,
      country.demonyms?.eng?.m,
    ])
    .sort(([a], [b]) => (a < b ? -1 : 1)),
);

insert("language", ["code", "name"], languages);
insert(
  "country_language",
  ["country", "language", "native_name"],
  countries.flatMap((country) =>
    Object.keys(country.languages).map((code) => [country.cca2, code, country.name.native[code]?.common]),
  ),
);

const currencies = mostCommon(countries.flatMap((country) => Object.entries(country.currencies)));
insert("currency", ["code", "name", "symbol"], currencies.map(([code, { name, symbol }]) => [code, name, symbol]));
insert(
  "country_currency",
  ["country", "currency"],
  countries.flatMap((country) => Object.keys(country.currencies).map((code) => [country.cca2, code])),
);

insert(
  "border",
  ["country", "neighbour"],
  countries.flatMap((country) => country.borders.map((alpha3) => [country.cca2, byAlpha3.get(alpha3)])),
);

insert(
  "translation",
  ["country", "language", "name"],
  countries.flatMap((country) =>
    Object.entries(country.translations).map(([code, { common }]) => {
      const language = terminological[code] ?? code;
      if (!known.has(language)) throw new Error(`no language ${language}`);
      return [country.cca2, language, common];
    }),
  ),
);
