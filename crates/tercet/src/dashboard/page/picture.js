// The picture: clients, balancer, application servers, database, and the requests on the edges between them.

const SVG = "http://www.w3.org/2000/svg";
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const rate = (value) =>
  `${value >= 1000 ? (value / 1000).toFixed(value >= 10000 ? 0 : 1) + "k" : value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)}/s`;
export const milliseconds = (value) =>
  value == null ? "–" : `${value >= 100 ? Math.round(value) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;

// How long a restarted part is shown as down: a restart may take less time than a look at the page.
const NOTICED = 2500;
const restarts = new Map();

// Up, between, or down.
export function standing(part, server) {
  const known = restarts.get(part.name) ?? { count: part.restarts, until: 0 };
  if (part.restarts > known.count) Object.assign(known, { count: part.restarts, until: Date.now() + NOTICED });
  restarts.set(part.name, known);
  if (Date.now() < known.until) return "down";
  if (part.state === "exited" || part.state === "stopped" || server?.state === "down") return "down";
  if (part.state === "starting" || part.state === "unreachable" || (server && server.state !== "up")) return "between";
  return "up";
}

export class Picture {
  constructor(parent) {
    this.parent = parent;
    this.shape = "";
    new ResizeObserver(() => this.last && this.draw(this.last)).observe(parent);
  }

  draw(state) {
    this.last = state;
    const width = Math.max(300, Math.min(760, this.parent.clientWidth));
    const apps = state.parts.filter((part) => part.name !== "balancer" && part.name !== "database");
    const database = state.parts.find((part) => part.name === "database");
    const applications = state.applications
      .map((it) => ({ ...it, apps: it.servers.flatMap((name) => apps.find((part) => part.name === name) ?? []) }))
      .filter((it) => it.apps.length > 0);
    const shape = [width, Boolean(database), ...applications.flatMap((it) => it.apps.map((part) => part.name))].join();
    if (shape !== this.shape) this.build(width, applications, database, shape);
    this.update(state, apps, database);
  }

  // Places the boxes; only when parts or the width have changed.
  build(width, applications, database, shape) {
    this.shape = shape;
    const gap = 14, margin = 8, middle = width / 2;
    const most = Math.max(1, ...applications.map((it) => it.apps.length));
    const columns = Math.max(1, Math.min(most, Math.floor((width - 2 * margin + gap) / (134 + gap))));
    const appWidth = Math.min(220, (width - 2 * margin - (columns - 1) * gap) / columns);
    const wide = Math.min(260, width - 2 * margin);
    const high = 74, space = 58;
    const root = svg("svg", { viewBox: `0 0 ${width} 10`, role: "img" });
    const edges = svg("g"), boxes = svg("g"), labels = svg("g");
    this.boxes = new Map();
    this.edges = [];
    const box = (name, x, y, w) => {
      const rect = svg("rect", { class: "box", x, y, width: w, height: high, rx: 12 });
      const dot = svg("circle", { class: "dot", cx: x + 18, cy: y + 21, r: 4.5 });
      const title = svg("text", { class: "title", x: x + 31, y: y + 26 }, name);
      const sub = svg("text", { class: "sub", x: x + 18, y: y + 45 });
      const figure = svg("text", { class: "figure", x: x + 18, y: y + 63 });
      boxes.append(svg("g", {}, rect, dot, title, sub, figure));
      this.boxes.set(name, { rect, dot, sub, figure, width: w });
    };
    const edge = (x1, y1, x2, y2, of) => {
      const half = (y2 - y1) / 2;
      const d = `M${x1} ${y1}C${x1} ${y1 + half} ${x2} ${y2 - half} ${x2} ${y2}`;
      const line = svg("path", { class: "edge", d }), flow = svg("path", { class: "flow", d });
      // In the middle of an edge, or before its end if it passes other boxes.
      const passes = y2 - y1 > space;
      const at = { x: passes ? x2 : (x1 + x2) / 2, y: passes ? y2 - 5 : (y1 + y2) / 2 + 4 };
      const label = svg("text", { class: "rate", ...at, "text-anchor": "middle" });
      edges.append(line, flow);
      labels.append(label);
      this.edges.push({ of, line, flow, label });
    };
    let y = 22;
    labels.append(svg("text", { class: "sub", x: middle, y: 16, "text-anchor": "middle" }, "clients"));
    edge(middle, y, middle, y + space - 12, "clients");
    y += space - 12;
    box("balancer", middle - wide / 2, y, wide);
    const below = y + high;
    y = below + space;
    // The rows of an application are below its name, if it has one.
    const servers = applications.flatMap(({ name, apps }, place) => {
      if (name) {
        y += place > 0 ? 26 : 14;
        labels.append(svg("text", { class: "sub application", x: margin, y: y - 6 }, name));
      }
      const placed = apps.map((part, index) => {
        const row = Math.floor(index / columns);
        const inRow = Math.min(columns, apps.length - row * columns);
        const left = middle - (inRow * appWidth + (inRow - 1) * gap) / 2 + (index % columns) * (appWidth + gap);
        box(part.name, left, y + row * (high + gap), appWidth);
        return { name: part.name, x: left + appWidth / 2, top: y + row * (high + gap) };
      });
      y += Math.ceil(apps.length / columns) * (high + gap);
      return placed;
    });
    for (const { name, x, top } of servers) edge(middle + (x - middle) * 0.25, below, x, top, name);
    y -= gap;
    if (database) {
      for (const { name, x, top } of servers) edge(x, top + high, middle + (x - middle) * 0.25, y + space, `${name} database`);
      y += space;
      box("database", middle - wide / 2, y, wide);
      y += high;
    }
    root.setAttribute("viewBox", `0 0 ${width} ${y + margin}`);
    root.append(edges, boxes, labels);
    this.root = root;
    this.parent.replaceChildren(root);
  }

  update(state, apps, database) {
    const servers = new Map(state.servers.map((server) => [server.name, server]));
    const golden = state.golden ?? { rate: 0, in_flight: 0 };
    const ofDataApi = new Set(state.applications.filter((it) => it.data_api).flatMap((it) => it.servers));
    const said = [];
    for (const part of state.parts) {
      const shown = this.boxes.get(part.name);
      if (!shown) continue;
      const server = servers.get(part.name);
      const now = standing(part, server);
      shown.rect.setAttribute("class", `box ${now}`);
      shown.dot.setAttribute("class", `dot ${now}`);
      shown.figure.setAttribute("class", now === "down" ? "down-text" : "figure");
      shown.sub.textContent = part.address ?? "";
      let figure = "";
      if (now === "down") figure = part.state === "stopped" ? "stopped" : server?.state === "down" && part.state === "ready" ? "down" : "exited, restarted";
      else if (now === "between") figure = part.state === "starting" ? "starting" : part.state === "unreachable" ? "cannot be read" : server.state;
      else if (server) figure = shown.width < 170 ? `p50 ${milliseconds(server.p50)}` : `p50 ${milliseconds(server.p50)} · p99 ${milliseconds(server.p99)}`;
      else if (part.name === "balancer") figure = `${golden.in_flight} in flight`;
      else if (part.name === "database" && state.database?.connections != null) figure = `${state.database.connections} connections, ${state.database.active} active`;
      shown.figure.textContent = figure;
      said.push(`${part.name} ${now === "up" ? "is up" : figure}`);
    }
    for (const edge of this.edges) {
      const name = edge.of.split(" ")[0];
      const part = apps.find((it) => it.name === name);
      const value = edge.of === "clients" ? golden.rate : (servers.get(name)?.rate ?? 0);
      const down = part && standing(part, servers.get(name)) === "down";
      const toDatabase = edge.of.endsWith(" database");
      const known = !toDatabase || ofDataApi.has(name);
      edge.line.setAttribute("class", down || (toDatabase && database?.state === "exited") ? "edge down" : "edge");
      edge.label.textContent = value > 0 && !toDatabase ? rate(value) : "";
      this.move(edge, known && !down ? value : 0);
    }
    this.root.setAttribute("aria-label", `${Math.round(golden.rate)} requests per second; ${said.join("; ")}`);
  }

  // Dots move faster with more requests: 1/s is slow, 10,000/s the fastest.
  move(edge, value) {
    edge.flow.setAttribute("class", value > 0 ? "flow on" : "flow");
    if (still.matches) return edge.motion?.cancel();
    edge.motion ??= edge.flow.animate([{ strokeDashoffset: 0 }, { strokeDashoffset: -18 }], { duration: 1000, iterations: Infinity });
    if (value > 0) {
      if (edge.motion.playState === "paused" || edge.motion.playState === "idle") edge.motion.play();
      edge.motion.updatePlaybackRate(0.5 + Math.min(4, Math.log10(1 + value)));
    } else edge.motion.pause();
  }
}
