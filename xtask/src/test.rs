//! Runs all tests: checks their prerequisites, prepares Node's and Python's packages, runs cargo.
//!
//! The tests find the packages by four variables: `TERCET_TEST_NODE`, a copy of `crates/tercet/tests/node`
//! with its `node_modules`; `TERCET_TEST_PYTHON`, a virtual environment with the requirements of `examples/fastapi`; and
//! `TERCET_TEST_SCHEMATHESIS` and `TERCET_TEST_PROGRAMS`, those of `crates/tercet/tests/python` and `…/programs`.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{command, packages, prerequisites};

/// Runs `cargo test --workspace` with `arguments`; an error if a prerequisite is missing or a test fails.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    prerequisites::check(prerequisites::OF_TESTS)?;
    let mut test = workspace.command("cargo");
    test.args(["test", "--workspace"]).args(arguments);
    if workspace.root.join("crates/tercet/tests/node").is_dir() {
        test.env("TERCET_TEST_NODE", packages::node(workspace, "crates/tercet/tests/node")?);
    }
    if workspace.root.join("examples/fastapi").is_dir() {
        let requirements = "examples/fastapi/requirements.txt";
        test.env("TERCET_TEST_PYTHON", packages::python(workspace, "test-python", requirements)?);
    }
    if workspace.root.join("crates/tercet/tests/python").is_dir() {
        let requirements = "crates/tercet/tests/python/requirements.txt";
        test.env("TERCET_TEST_SCHEMATHESIS", packages::python(workspace, "test-schemathesis", requirements)?);
    }
    if workspace.root.join("crates/tercet/tests/programs").is_dir() {
        let requirements = "crates/tercet/tests/programs/requirements.txt";
        test.env("TERCET_TEST_PROGRAMS", packages::python(workspace, "test-programs", requirements)?);
    }
    command::attached(&mut test)
}
