//! tercet.toml: text in, Topology out; every mistake at once.
