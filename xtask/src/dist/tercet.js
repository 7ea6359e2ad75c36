#!/usr/bin/env node
// Starts the binary of this platform's package, and ends as it ends.
"use strict";
const { spawn } = require("node:child_process");
const os = require("node:os");

const name = `@tercet/${process.platform}-${process.arch}`;
let binary;
try {
  binary = require.resolve(`${name}/bin/tercet`);
} catch {
  console.error(
    `error: there is no tercet for ${process.platform}-${process.arch} here: the package ${name} is missing\n` +
      `hint: install it beside this one: without --omit=optional, or from files with npm install ${name.slice(1).replace("/", "-")}-*.tgz tercet-*.tgz; tercet runs on Linux with glibc 2.34 or newer`,
  );
  process.exit(1);
}
const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
// The terminal sends Ctrl-C to both processes; other senders only to this one.
process.on("SIGINT", () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`error: ${binary} cannot be started: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code));
