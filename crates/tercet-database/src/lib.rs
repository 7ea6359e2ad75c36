//! Tier 3: PostgreSQL: its binaries, a private cluster, roles, pg_hba, migrations.
