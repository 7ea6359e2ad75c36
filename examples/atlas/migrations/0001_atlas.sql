-- The atlas: countries, and what they have to do with each other. Each table is a resource: /country, /language, …;
-- each foreign key is a way from one to the other: /country?select=name,language(name).

create table region (
    name text primary key
);
comment on table region is 'A part of the world.';

create table subregion (
    name text primary key,
    region text not null references region
);
comment on table subregion is 'A part of a region.';

create table country (
    code text primary key check (code ~ '^[A-Z]{2}$'),
    alpha3 text not null unique check (alpha3 ~ '^[A-Z]{3}$'),
    numeric text unique check (numeric ~ '^[0-9]{3}$'),
    name text not null unique,
    official_name text not null,
    capitals text[] not null,
    region text not null references region,
    subregion text not null references subregion,
    independent boolean,
    un_member boolean not null,
    landlocked boolean not null,
    area_km2 double precision check (area_km2 >= 0),
    latitude double precision not null check (latitude between -90 and 90),
    longitude double precision not null check (longitude between -180 and 180),
    flag text,
    calling_codes text[] not null,
    domains text[] not null,
    demonym text
);
comment on table country is 'A country or territory of ISO 3166-1, and Kosovo.';
comment on column country.code is 'ISO 3166-1 alpha-2.';
comment on column country.independent is 'Whether it is a sovereign state; null where that is disputed.';
comment on column country.latitude is 'Of about its middle, in degrees, north is positive.';
comment on column country.longitude is 'Of about its middle, in degrees, east is positive.';
create index on country (region);
create index on country (subregion);

create table language (
    code text primary key,
    name text not null
);
comment on table language is 'A language that is official somewhere.';
comment on column language.code is 'ISO 639-3.';

create table country_language (
    country text references country,
    language text references language,
    native_name text,
    primary key (country, language)
);
comment on table country_language is 'Which languages are official where.';
comment on column country_language.native_name is 'What the country is called in that language.';
create index on country_language (language);

create table currency (
    code text primary key,
    name text not null,
    symbol text not null
);
comment on table currency is 'What is paid with.';
comment on column currency.code is 'ISO 4217, or what is used where that knows none.';

create table country_currency (
    country text references country,
    currency text references currency,
    primary key (country, currency)
);
comment on table country_currency is 'Which currencies are used where.';
create index on country_currency (currency);

create table border (
    country text references country,
    neighbour text references country,
    primary key (country, neighbour),
    check (country <> neighbour)
);
comment on table border is 'Which countries share a land border, once in each direction.';
create index on border (neighbour);

create table translation (
    country text references country,
    language text,
    name text not null,
    primary key (country, language)
);
comment on table translation is 'What countries are called elsewhere.';
-- No foreign key: with two ways from country to language, each request would have to say which it means.
comment on column translation.language is 'ISO 639-3.';
create index on translation (lower(name) text_pattern_ops);

-- Everyone may read all of it; nobody may change it but a migration.
grant select on region, subregion, country, language, country_language, currency, country_currency, border, translation
    to anon, authenticated;
