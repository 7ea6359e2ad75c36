// Asks for the state twice a second and shows it. All text is inserted as text.

import { Charts } from "./charts.js";
import { milliseconds, Picture, rate, standing, svg } from "./picture.js";

const find = (id) => document.getElementById(id);
const picture = new Picture(find("picture"));
const charts = new Charts(find("golden"));
const shown = { which: "requests", chosen: null, frozen: false, last: 0, state: null };

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function ago(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < 4) { count /= 1000; unit += 1; }
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

const clock = (time) => (time ?? "").slice(11, 19);

function servers(state) {
  const byName = new Map(state.servers.map((server) => [server.name, server]));
  const order = (part) => (part.name === "balancer" ? 0 : part.name === "database" ? 2 : 1);
  const parts = [...state.parts].sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name, "en", { numeric: true }));
  const rows = parts.map((part) => {
    const server = byName.get(part.name);
    const now = standing(part, server);
    const word = part.state !== "ready" ? part.state : (server?.state ?? "ready");
    const number = (text, wide) => element("td", { class: wide ? "number wide" : "number" }, text);
    const golden = part.name === "balancer" ? state.golden : null;
    const row = element("tr", {}, element("td", {}, part.name), element("td", {}, element("span", { class: `state ${now}` }, word)),
      number(server ? rate(server.rate) : golden ? rate(golden.rate) : "–"),
      number(server ? String(server.in_flight) : golden ? String(golden.in_flight) : "–", true),
      number(milliseconds(server?.p50)), number(milliseconds(server?.p99)),
      number(server ? String(server.failures) : "–", true), number(String(part.restarts), true));
    row.dataset.part = part.name;
    if (part.reason) row.title = `last exit: ${part.reason}`;
    return row;
  });
  find("servers").tBodies[0].replaceChildren(...rows);
}

function facts(state) {
  const { database, machine } = state;
  const rows = [];
  const fact = (name, text, alarm) => text != null && rows.push(element("dt", {}, name), element("dd", alarm ? { class: "alarm" } : {}, text));
  find("facts-title").textContent = state.machines ? "Machines" : "Database and machine";
  if (state.machines) {
    machines(state, fact);
    return find("facts").replaceChildren(...rows);
  }
  if (database.reason) fact("PostgreSQL", database.reason, database.reason !== "not read yet");
  else {
    fact("PostgreSQL", `${database.version.split(" ")[0]}, ${bytes(database.bytes)}`);
    fact("Connections", `${database.connections} of ${database.max_connections}, ${database.active} active`, database.connections > database.max_connections * 0.9);
    fact("Waiting for a lock", String(database.waiting), database.waiting > 0);
    fact("Idle in a transaction", String(database.idle_in_transaction));
    if (database.oldest_transaction > 1) fact("Oldest transaction", `${Math.round(database.oldest_transaction)} s`, database.oldest_transaction > 300);
    if (database.cache_hit != null) fact("Read from memory", `${(database.cache_hit * 100).toFixed(1)} %`);
  }
  if (machine.cpu != null) fact("Processors", `${Math.round(machine.cpu * 100)} % of ${machine.processors}`);
  if (machine.memory) fact("Memory", `${bytes(machine.memory[0] - machine.memory[1])} of ${bytes(machine.memory[0])}`, machine.memory[1] < machine.memory[0] * 0.05);
  if (machine.disk) fact("Disk", `${bytes(machine.disk[1])} free of ${bytes(machine.disk[0])}`, machine.disk[1] < machine.disk[0] * 0.1);
  for (const { file, ends } of state.certificates) {
    const days = ends ? Math.floor((new Date(ends) - Date.now()) / 86400000) : null;
    fact(`Certificate ${file}`, ends ? `until ${ends.slice(0, 10)}, ${days} days` : "cannot be read", days == null || days < 14);
  }
  const [backup] = state.backups;
  if (!database.reason || backup) {
    const checked = backup && (backup.passed == null ? "not checked" : backup.passed ? "passed its check" : "failed its check");
    fact("Last backup", backup ? `${backup.ended ? `${ago(backup.ended)} ago` : backup.id}, ${bytes(backup.bytes)}, ${checked}` : "none", backup?.passed === false);
  }
  find("facts").replaceChildren(...rows);
}

function machines(state, fact) {
  for (const alert of state.alerts) fact(alert.name, `${alert.summary}, since ${ago(alert.since)}`, !alert.suppressed);
  for (const machine of state.machines) {
    const tiers = machine.tiers.join(", ");
    if (machine.reason) fact(machine.name, machine.reason, true);
    else if (machine.memory) {
      const [all, available] = machine.memory;
      fact(machine.name, `${tiers}; load ${machine.load.toFixed(2)}, memory ${bytes(all - available)} of ${bytes(all)}`, available < all * 0.05);
    } else fact(machine.name, `${tiers}; not read yet`);
    if (machine.disk) fact(`${machine.name} ${machine.disk[0]}`, `${bytes(machine.disk[2])} free of ${bytes(machine.disk[1])}`, machine.disk[2] < machine.disk[1] * 0.1);
    if (machine.certificates) {
      const days = Math.floor((new Date(machine.certificates) - Date.now()) / 86400000);
      fact(`${machine.name} certificates`, `until ${machine.certificates.slice(0, 10)}, ${days} days`, days < 14);
    }
    if (machine.backup) {
      const { ended, bytes: size, passed } = machine.backup;
      fact(`${machine.name} last backup`, `${ago(ended)} ago, ${bytes(size)}, ${passed == null ? "not checked" : passed ? "passed its check" : "failed its check"}`, passed === false);
    }
    for (const warning of machine.warnings ?? []) fact(`${machine.name} warning`, warning, true);
  }
}

// The share of a request's time in the data API and in PostgreSQL.
function shares(request) {
  const whole = request.spans[0].duration || 1;
  const bar = svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "rest", width: 100, height: 8 }));
  for (const [name, kind] of [["data API", "api"], ["PostgreSQL", "sql"]]) {
    const span = request.spans.find((it) => it.name === name);
    if (span) bar.append(svg("rect", { class: kind, x: (span.start / whole) * 100, width: Math.max(0.5, (span.duration / whole) * 100), height: 8 }));
  }
  return bar;
}

function list(state) {
  const requests = state[shown.which];
  const rows = requests.map((request) => {
    const button = element("button", { type: "button", title: `${request.method} ${request.target}` }, `${request.method} ${request.target}`);
    const row = element("tr", {}, element("td", { class: "wide muted" }, clock(request.ended)), element("td", {}, button),
      element("td", { class: "code" }, String(request.status)), element("td", { class: "wide" }, request.server ?? "–"),
      element("td", { class: "number" }, milliseconds(request.spans[0].duration / 1000)), element("td", { class: "shares wide" }, shares(request)));
    row.classList.toggle("failed", request.status >= 500);
    row.classList.toggle("chosen", request.request_id === shown.chosen);
    row.addEventListener("click", () => choose(request));
    return row;
  });
  find("list").tBodies[0].replaceChildren(...rows);
  find("none").hidden = rows.length > 0;
  find("none").textContent = shown.which === "requests" ? "No request yet." : "No request has failed or was slow.";
}

function choose(request) {
  shown.chosen = request.request_id;
  const whole = request.spans[0].duration || 1;
  const rows = request.spans.map((span) => {
    const kind = span.name === "PostgreSQL" ? "sql" : span.name === "data API" || span.depth === 3 ? "api" : "rest";
    const bar = svg("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: kind, x: Math.min(99.2, (span.start / whole) * 100), y: 1, width: Math.max(0.8, (span.duration / whole) * 100), height: 10 }));
    return element("tr", {}, element("td", { class: `depth-${span.depth}` }, span.name), element("td", {}, bar),
      element("td", { class: "number" }, `${(span.duration / 1000).toFixed(3)} ms`));
  });
  const server = request.server ? ` by ${request.server}` : "";
  const count = request.rows == null ? "" : `, ${request.rows} ${request.rows === 1 ? "row" : "rows"}`;
  const table = element("table", {}, element("tbody", {}, ...rows));
  const parts = [element("h3", {}, `${request.method} ${request.target} → ${request.status}`), element("p", { class: "muted" }, `${request.request_id}${server}${count}, ended at ${clock(request.ended)} UTC`), table];
  if (request.sql) parts.push(element("pre", {}, request.sql));
  find("detail").replaceChildren(...parts);
  for (const row of find("list").tBodies[0].rows) row.classList.remove("chosen");
  if (shown.state) list(shown.state);
}

function log(lines) {
  const list = find("log");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  for (const line of lines) {
    list.append(element("li", { class: line.level }, element("time", {}, clock(line.time)), element("span", { class: "part" }, line.part), element("span", { class: "message" }, line.message)));
  }
  while (list.children.length > 400) list.firstChild.remove();
  if (atEnd && lines.length) list.scrollTop = list.scrollHeight;
}

async function ask(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(4000) });
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
}

let round = 0;
async function refresh() {
  try {
    if (!document.hidden) {
      const state = await ask(`state?after=${shown.last}`);
      if (state.last < shown.last) find("log").replaceChildren();
      shown.last = state.last;
      document.title = `${state.name} · tercet`;
      find("name").textContent = state.name;
      const summary = state.summary ? [state.summary] : state.url ? [`up for ${ago(state.since)} on `, element("a", { href: state.url }, state.url.replace(/^https?:\/\//, ""))] : ["starting"];
      find("summary").replaceChildren(...summary);
      picture.draw(state);
      charts.now(state.golden);
      servers(state);
      facts(state);
      log(state.lines);
      if (!shown.frozen) { shown.state = state; list(state); }
      if (round % 4 === 0) charts.past(await ask("history"));
      round += 1;
      find("connection").className = "";
      find("connection").textContent = "live";
    }
  } catch (error) {
    find("connection").className = "lost";
    find("connection").textContent = error.message === "403" ? "another run: open the address that tercet printed" : "no connection to tercet";
  }
  setTimeout(refresh, 500);
}

function pressed(first, second, then) {
  for (const [id, other] of [[first, second], [second, first]]) {
    find(id).addEventListener("click", () => {
      find(id).setAttribute("aria-pressed", "true");
      find(other).setAttribute("aria-pressed", "false");
      then(id);
    });
  }
}

pressed("latest", "notable", (id) => {
  shown.which = id === "latest" ? "requests" : "notable";
  if (shown.state) list(shown.state);
});
pressed("all-levels", "warnings", (id) => {
  find("log").classList.toggle("only-warnings", id === "warnings");
  find("log").scrollTop = find("log").scrollHeight;
});

const freeze = (frozen) => {
  shown.frozen = frozen;
  find("paused").hidden = !frozen;
};
const area = find("list");
area.addEventListener("pointerenter", () => freeze(true));
area.addEventListener("pointerleave", () => freeze(area.contains(document.activeElement)));
area.addEventListener("focusin", () => freeze(true));
area.addEventListener("focusout", () => freeze(area.matches(":hover")));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && area.contains(document.activeElement)) document.activeElement.blur();
});

find("detail").append(element("p", { class: "legend" },
  ...[["rest", "balancer and network"], ["api", "data API"], ["sql", "PostgreSQL"]].map(([kind, name]) =>
    element("span", {}, svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: kind, width: 10, height: 10 })), name))));
refresh();
