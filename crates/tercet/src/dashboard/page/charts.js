// The golden numbers: the current value, the last 15 minutes as a line, and the same as a table.

import { milliseconds, rate, svg } from "./picture.js";

const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 2 : share === 0 ? 0 : 1)} %`;

const TILES = [
  { title: "Requests", of: (s) => s.rate, text: (v) => rate(v).replace("/s", ""), unit: "per second", columns: [["per second", (s) => rate(s.rate)]] },
  { title: "Errors", of: (s) => s.errors, text: (v) => percent(v).replace(" %", ""), unit: "%", note: "answered with 500 or more", alarm: (s) => s.errors > 0.02, columns: [["share", (s) => percent(s.errors)]] },
  { title: "Latency", of: (s) => s.p99, second: (s) => s.p50, text: (v) => milliseconds(v).replace(" ms", ""), unit: "ms p99", note: (s) => `p50 ${milliseconds(s.p50)} to the first byte`, columns: [["p50", (s) => milliseconds(s.p50)], ["p99", (s) => milliseconds(s.p99)]] },
  { title: "In flight", of: (s) => s.in_flight, text: (v) => String(v), unit: "requests", columns: [["requests", (s) => String(s.in_flight)]] },
];

const WIDTH = 300, HEIGHT = 56, LEAST = 60;

export class Charts {
  constructor(parent) {
    this.tiles = TILES.map((tile) => {
      const value = document.createElement("p"), note = document.createElement("p"), title = document.createElement("h3");
      value.className = "value";
      note.className = "note";
      title.textContent = tile.title;
      const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
      const details = document.createElement("details"), summary = document.createElement("summary"), scroll = document.createElement("div");
      scroll.className = "scroll";
      details.append(summary, scroll);
      const card = document.createElement("figure");
      card.className = "card tile";
      card.append(title, value, note, chart, details);
      parent.append(card);
      return { ...tile, card, value, notes: note, chart, details, summary, scroll };
    });
  }

  now(sample) {
    if (!sample) return;
    for (const tile of this.tiles) {
      const unit = document.createElement("span");
      unit.className = "unit";
      unit.textContent = tile.unit;
      tile.value.replaceChildren(tile.text(tile.of(sample)), " ", unit);
      tile.notes.textContent = typeof tile.note === "function" ? tile.note(sample) : (tile.note ?? "");
      tile.card.classList.toggle("alarm", Boolean(tile.alarm?.(sample)));
    }
  }

  past(history) {
    const end = history.length ? history[history.length - 1].at : 0;
    const span = history.length ? Math.max(LEAST, end - history[0].at) : LEAST;
    const minutes = Math.max(1, Math.round(span / 60));
    for (const tile of this.tiles) {
      const series = [tile.of, tile.second].filter(Boolean);
      const top = Math.max(1e-9, ...history.flatMap((sample) => series.map((of) => of(sample) ?? 0))) * 1.1;
      const place = (sample, of) => [WIDTH - ((end - sample.at) / span) * WIDTH, HEIGHT - 1 - ((of(sample) ?? 0) / top) * (HEIGHT - 6)];
      const line = (of) => history.map((sample) => place(sample, of).map((it) => it.toFixed(1)).join(" "));
      const points = line(tile.of);
      const shapes = [svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 })];
      if (points.length > 1) {
        const left = points[0].split(" ")[0];
        shapes.push(svg("path", { class: "area", d: `M${left} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z` }));
        shapes.push(svg("path", { class: "stroke", d: `M${points.join("L")}` }));
        if (tile.second) shapes.push(svg("path", { class: "second", d: `M${line(tile.second).join("L")}` }));
      }
      tile.chart.replaceChildren(...shapes);
      tile.chart.setAttribute("aria-label", `${tile.title} over the last ${minutes} min; the table below has the values`);
      tile.summary.textContent = `Last ${minutes} min as a table`;
      if (tile.details.open) tile.scroll.replaceChildren(this.table(tile, history, end));
      else tile.scroll.replaceChildren();
    }
  }

  table(tile, history, end) {
    const table = document.createElement("table");
    const row = (cells, name) => {
      const row = document.createElement("tr");
      for (const text of cells) {
        const cell = document.createElement(name);
        cell.textContent = text;
        if (cell !== row.firstChild) cell.className = row.children.length ? "number" : "";
        row.append(cell);
      }
      return row;
    };
    table.append(row(["ago", ...tile.columns.map(([title]) => title)], "th"));
    let next = 0;
    for (const sample of [...history].reverse()) {
      const ago = end - sample.at;
      if (ago < next) continue;
      next = ago + 30;
      const label = ago < 60 ? `${Math.round(ago)} s` : `${Math.floor(ago / 60)} min ${Math.round(ago % 60)} s`;
      table.append(row([label, ...tile.columns.map(([, text]) => text(sample))], "td"));
    }
    return table;
  }
}
