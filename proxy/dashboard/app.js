// The operator's page. It draws what /admin/live tells it; every text goes in as text, never as markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KEPT = { access: "lockgate.access", refresh: "lockgate.refresh", range: "lockgate.range" };
const ROWS = 30;

const view = { range: "1h", points: [], state: null, tables: null, totals: null, calls: [], fresh: new Set(), held: false, more: null };

// ---- elements and figures ----

function make(kind, facts = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(facts)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

function draw(kind, facts = {}, text = null) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(facts)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const count = (n) => (n === null || n === undefined ? "–" : n < 100000 ? plain.format(n) : short.format(n));
const percent = (part, whole) => (!whole ? "–" : part === 0 ? "0 %" : part / whole < 0.001 ? "< 0.1 %" : `${(100 * part / whole).toFixed(part / whole < 0.1 ? 1 : 0)} %`);

function rate(n) {
  return n === 0 ? "0/s" : n < 0.1 ? `${+(n * 60).toFixed(n < 0.01 ? 1 : 0)}/min` : n < 10 ? `${n.toFixed(1)}/s` : `${count(Math.round(n))}/s`;
}

function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0.001) return `${(s * 1000).toFixed(2)} ms`;
  if (s < 0.01) return `${(s * 1000).toFixed(1)} ms`;
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  return s < 100 ? `${s.toFixed(s < 10 ? 2 : 1)} s` : `${Math.round(s)} s`;
}

function dollars(nano) {
  if (nano === null || nano === undefined) return "–";
  const usd = nano / 1e9;
  if (usd === 0) return "$0";
  if (usd < 0.0001) return "< $0.0001";
  if (usd < 0.1) return `$${usd.toFixed(4)}`;
  return usd < 1000 ? `$${usd.toFixed(2)}` : `$${short.format(usd)}`;
}

function bytes(n) {
  return n === null || n === undefined ? "–" : n < 1e6 ? `${Math.round(n / 1e3)} kB` : n < 1e9 ? `${Math.round(n / 1e6)} MB` : `${(n / 1e9).toFixed(1)} GB`;
}

function since(s) {
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}

const clock = (at, withSeconds) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(withSeconds ? { second: "2-digit" } : {}), hour12: false });

const trimmed = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

function say(text) { $("say").textContent = text; }

// ---- charts ----

class Chart {
  // `series` is bottom first: {name, colour, of: point → number or null, total: totals → text}; stacked, or lines.
  constructor({ title, series, format, stacked = false, broad = false, rated = false, nothing }) {
    Object.assign(this, { title, series, format, stacked, rated, nothing, points: [], totals: null, at: null });
    this.when = make("span", { class: "when" });
    this.values = series.map(() => make("b"));
    const legend = series.map((each, n) => {
      const mark = make("i");
      mark.style.background = `var(${each.colour})`;
      return make("li", {}, mark, `${each.name} `, this.values[n]);
    });
    this.svg = draw("svg", { "aria-hidden": "true" });
    this.note = make("div", { class: "nothing", hidden: true });
    this.plot = make("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${title}: arrow keys read it point by point` }, this.svg, this.note);
    this.element = make("section", { class: `card chart${broad ? " broad" : ""}` },
      make("div", { class: "bar" }, make("h3", { class: "title" }, title), make("div", { class: "spring" }), this.when),
      make("ul", { class: "legend" }, ...legend.reverse()), this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.plot.addEventListener("pointerdown", (event) => this.point(event.offsetX));
    this.plot.addEventListener("pointerleave", () => this.pick(null));
    this.plot.addEventListener("blur", () => this.pick(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.render()).observe(this.plot);
  }

  update(points, step, totals) {
    Object.assign(this, { points, step, totals });
    this.render();
  }

  point(x) {
    if (!this.points.length) return;
    const share = (x - this.left) / Math.max(1, this.width - this.left);
    this.pick(Math.min(this.points.length - 1, Math.max(0, Math.floor(share * this.points.length))));
  }

  key(event) {
    const last = this.points.length - 1;
    const now = this.at ?? last + 1;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.pick(to === null ? null : Math.min(last, Math.max(0, to)));
    if (this.at !== null) say(`${clock(this.points[this.at].at, true)}: ${this.series.map((each, n) => `${each.name} ${this.values[n].textContent}`).join(", ")}`);
  }

  pick(at) {
    this.at = at;
    this.caption();
    this.cursor();
  }

  value(each, point) {
    const value = each.of(point);
    return value === null ? null : this.rated ? value / this.step : value;
  }

  caption() {
    const point = this.at === null ? null : this.points[this.at];
    this.when.textContent = point ? clock(point.at, this.step < 60) : "";
    this.series.forEach((each, n) => {
      this.values[n].textContent = point ? this.format(this.value(each, point)) : this.totals ? each.total(this.totals) : "";
    });
  }

  cursor() {
    this.svg.querySelector(".cursor")?.remove();
    if (this.at === null || !this.points.length) return;
    const x = this.x(this.at + 0.5);
    this.svg.append(draw("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: this.height }));
  }

  x(n) { return this.left + (n / this.points.length) * (this.width - this.left); }
  y(value) { return this.height - (value / this.top) * this.height; }

  render() {
    const box = this.plot.getBoundingClientRect();
    if (!box.width || !this.points.length) return;
    Object.assign(this, { width: box.width, height: box.height - 20, left: 46 });
    const rows = this.series.map((each) => this.points.map((point) => this.value(each, point)));
    const stacks = this.stacked ? pile(rows) : rows;
    const highest = Math.max(0, ...stacks.flat().filter((value) => value !== null));
    // a step is drawn when it is over: until then the totals know of calls that no point has
    const early = this.totals && this.series.some((each) => each.of(this.totals) > 0);
    this.note.textContent = early ? `Drawn when the first ${this.step < 60 ? `${this.step} seconds` : `${this.step / 60} minutes`} are over.` : this.nothing;
    this.note.hidden = highest > 0;
    this.top = ceiling(highest);
    const marks = [];
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(this.y(this.top * share)) + 0.5;
      marks.push(draw("line", { class: "grid", x1: this.left, x2: this.width, y1: y, y2: y }));
      if (highest > 0) marks.push(draw("text", { x: this.left - 8, y: y + 4, "text-anchor": "end" }, share ? trimmed(this.format(this.top * share)) : "0"));
    }
    const shapes = this.stacked ? this.areas(stacks) : this.lines(stacks);
    this.svg.replaceChildren(...marks, ...shapes, ...this.times());
    this.caption();
    this.cursor();
  }

  areas(stacks) {
    // upper edges as steps; drawn top first, so that each covers the one above it down to the ground
    return stacks.map((edge, n) => {
      let path = `M${this.x(0).toFixed(1)} ${this.height}`;
      edge.forEach((value, i) => { path += `V${this.y(value).toFixed(1)}H${this.x(i + 1).toFixed(1)}`; });
      const area = draw("path", { d: `${path}V${this.height}Z` });
      area.style.fill = `var(${this.series[n].colour})`;
      return area;
    }).reverse();
  }

  lines(rows) {
    return rows.map((row, n) => {
      let path = "", open = false;
      row.forEach((value, i) => {
        if (value === null) { open = false; return; }
        path += `${open ? "L" : "M"}${this.x(i + 0.5).toFixed(1)} ${this.y(value).toFixed(1)}${open ? "" : "h.01"}`;
        open = true;
      });
      const line = draw("path", { d: path || "M0 0", fill: "none", "stroke-width": this.series[n].thin ? 1.2 : 1.8, "stroke-linejoin": "round", "stroke-linecap": "round" });
      line.style.stroke = `var(${this.series[n].colour})`;
      return line;
    });
  }

  times() {
    const wanted = Math.max(2, Math.floor(this.width / 80));
    const span = this.points.length * this.step;
    const apart = [60, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200].find((each) => span / each <= wanted) ?? 86400;
    const first = this.points[0].at;
    const zone = new Date(first * 1000).getTimezoneOffset() * 60;
    const found = [];
    for (let at = Math.ceil((first - zone) / apart) * apart + zone; at < first + span; at += apart) {
      const x = this.x((at - first) / this.step);
      if (x > this.left + 10 && x < this.width - 16) found.push(draw("text", { x, y: this.height + 16, "text-anchor": "middle" }, clock(at, false)));
    }
    return found;
  }
}

function pile(rows) {
  const edges = [];
  rows.forEach((row, n) => edges.push(row.map((value, i) => (value ?? 0) + (n ? edges[n - 1][i] : 0))));
  return edges;
}

function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= value * 1.0001);
}

const answered = (t) => t.calls - t.refused - t.blocked - t.failed - t.left;
const hits = (t) => t.hits_exact + t.hits_semantic;
const looked = (t) => hits(t) + t.missed;

const charts = [
  new Chart({
    title: "Traffic", stacked: true, rated: true, broad: true, format: rate, nothing: "No calls in this range.",
    series: [
      { name: "failed", colour: "--c-failed", of: (p) => p.failed, total: (t) => count(t.failed) },
      { name: "refused", colour: "--c-refused", of: (p) => p.refused + p.blocked, total: (t) => count(t.refused + t.blocked) },
      { name: "left early", colour: "--c-left", of: (p) => p.left, total: (t) => count(t.left) },
      { name: "answered", colour: "--c-answered", of: answered, total: (t) => count(answered(t)) },
    ],
  }),
  new Chart({
    title: "Latency", broad: true, format: seconds, nothing: "No calls in this range.",
    series: [
      { name: "p99", colour: "--c-p99", of: (p) => p.p99, total: (t) => seconds(t.p99), thin: true },
      { name: "p95", colour: "--c-p95", of: (p) => p.p95, total: (t) => seconds(t.p95) },
      { name: "p50", colour: "--c-p50", of: (p) => p.p50, total: (t) => seconds(t.p50) },
    ],
  }),
  new Chart({
    title: "Time to first content of streams", format: seconds, nothing: "No streams in this range.",
    series: [
      { name: "p95", colour: "--c-p95", of: (p) => p.first95, total: (t) => seconds(t.first95) },
      { name: "p50", colour: "--c-p50", of: (p) => p.first50, total: (t) => seconds(t.first50) },
    ],
  }),
  new Chart({
    title: "Cache", stacked: true, rated: true, format: rate, nothing: "No cache was asked in this range.",
    series: [
      { name: "exact hits", colour: "--c-exact", of: (p) => p.hits_exact, total: (t) => percent(t.hits_exact, looked(t)) },
      { name: "semantic hits", colour: "--c-semantic", of: (p) => p.hits_semantic, total: (t) => percent(t.hits_semantic, looked(t)) },
      { name: "misses", colour: "--c-missed", of: (p) => p.missed, total: (t) => percent(t.missed, looked(t)) },
    ],
  }),
  new Chart({
    title: "Money", stacked: true, format: dollars, nothing: "Nothing was spent or saved in this range.",
    series: [
      { name: "spent", colour: "--c-spent", of: (p) => p.spent, total: (t) => dollars(t.spent) },
      { name: "saved by the caches", colour: "--c-saved", of: (p) => p.saved, total: (t) => dollars(t.saved) },
    ],
  }),
];

// ---- tiles and tables ----

function tile(name, value, under, bad = false) {
  return make("div", { class: bad ? "tile bad" : "tile" }, make("dt", {}, name), make("dd", {}, value), make("dd", { class: "under" }, under));
}

function renderTiles() {
  const t = view.totals, s = view.state;
  if (!t || !s) return;
  const errors = t.failed, refused = t.refused + t.blocked;
  const lookups = looked(t);
  $("tiles").replaceChildren(
    tile("Calls", count(t.calls), `${count(t.tokens)} tokens, ${count(s.in_flight)} in flight`),
    tile("Failed", percent(errors, t.calls), `${count(errors)} failed, ${count(refused)} refused`, t.calls > 20 && errors / t.calls > 0.05),
    tile("Latency, p95", seconds(t.p95), `half within ${seconds(t.p50)}`),
    tile("First content, p95", seconds(t.first95), t.first50 === null ? "no streams" : `half within ${seconds(t.first50)}`),
    tile("Cache hits", percent(hits(t), lookups), lookups ? `${count(t.hits_exact)} exact, ${count(t.hits_semantic)} semantic` : "no lookups"),
    tile("Spent", dollars(t.spent), `${dollars(t.saved)} saved`),
  );
}

function renderStatus() {
  const s = view.state;
  if (!s) return;
  const ill = Object.entries(s.parts).filter(([, state]) => state !== "ok");
  const worst = s.draining ? "degraded" : ill.some(([, state]) => state === "down") ? "down" : ill.length ? "degraded" : "ok";
  const text = s.draining ? "Going down" : ill.length ? ill.map(([name, state]) => `${name}: ${state}`).join(", ") : "All parts are well";
  const line = connection ? `${text} · ${connection}` : text;
  if ($("status").textContent !== line) $("status").replaceChildren(make("span", { class: `dot ${worst}` }), line);
  const facts = [`Lockgate ${s.version}`, `up ${since(s.uptime)}`, `memory ${bytes(s.memory)}`, `loop at most ${seconds(s.lag)} late`];
  if (s.outbox) facts.push(`outbox ${bytes(s.outbox.bytes)}${s.outbox.lost ? `, ${count(s.outbox.lost)} records lost` : ""}`);
  $("foot").textContent = facts.join(" · ");
}

function cells(...values) {
  return make("tr", {}, ...values.map((value) => (value instanceof Node ? value : make("td", { class: value[1] ?? "" }, value[0]))));
}

function fill(id, rows, width, nothing) {
  $(id).tBodies[0].replaceChildren(...(rows.length ? rows : [make("tr", {}, make("td", { class: "none", colspan: width }, nothing))]));
}

const num = (text, wide) => [text, wide ? "number wide" : "number"];
const wrong = (t) => t.failed + t.refused + t.blocked;

function renderTables() {
  const t = view.tables;
  if (!t) return;
  const hour = `No calls since ${clock(t.since, false)}.`;
  fill("routes", t.routes.map((each) => cells([each.name || "none", each.name ? "" : "none"], num(count(each.calls)), num(percent(wrong(each), each.calls)),
    num(seconds(each.p50), true), num(seconds(each.p95)), num(percent(hits(each), looked(each)), true), num(dollars(each.spent), true))), 7, hour);
  fill("callers", t.callers.map((each) => cells([each.name || "unknown", each.name ? "" : "none"], num(count(each.calls)), num(percent(wrong(each), each.calls)),
    num(count(each.tokens), true), num(dollars(each.spent)))), 5, hour);
  fill("guards", t.guards.map((each) => cells([each.guard], [each.side], make("td", {}, chip(each.action)), num(count(each.count)))), 4, `Nothing since ${clock(t.since, false)}.`);
  renderDeployments(t);
}

function renderDeployments(t) {
  const busy = new Map(t.deployments.map((each) => [each.name, each]));
  const named = new Map(t.standing.map((each) => [each.name, each]));
  const names = [...new Set([...named.keys(), ...busy.keys()])];
  const weight = (name) => (named.get(name)?.standing === "open" || !named.has(name) ? 0 : 1e12) + (busy.get(name)?.calls ?? 0);
  names.sort((a, b) => weight(b) - weight(a));
  const rows = names.slice(0, 16).map((name) => {
    const calls = busy.get(name), known = named.get(name);
    return cells([name], make("td", {}, standing(known)), num(count(calls?.calls ?? 0)), num(calls ? percent(calls.failed, calls.calls) : "–"),
      num(seconds(calls?.p95 ?? known?.latency), true));
  });
  fill("deployments", rows, 5, "No deployment is known yet.");
}

function standing(known) {
  if (!known) return make("span", { class: "dim" }, "–");
  if (known.standing === "open") return make("span", { class: "chip good" }, "open");
  const text = known.standing === "probe" ? "to be probed" : `rests ${since(Math.ceil(known.resting_for))}`;
  return make("span", {}, make("span", { class: "chip warn" }, text), make("span", { class: "dim wide" }, known.reason ? ` ${known.reason}` : ""));
}

const TONES = { complete: "good", ok: "good", allow: "good", "hit-exact": "good", "hit-semantic": "good", block: "bad", error: "bad", upstream_interrupted: "bad", guard_blocked: "warn", flag: "warn", redact: "warn", client_disconnect: "plain" };
const WORDS = { complete: "answered", client_disconnect: "left early", upstream_interrupted: "interrupted", guard_blocked: "blocked" };

function chip(text, tone = TONES[text] ?? "plain") {
  return make("span", { class: `chip ${tone}` }, WORDS[text] ?? text);
}

function result(call) {
  if (call.outcome === "error") {
    const shown = chip(call.status ? String(call.status) : "failed", call.status >= 500 || !call.status ? "bad" : "warn");
    shown.append(make("span", { class: "wide" }, ` ${call.error}`));
    return shown;
  }
  return call.outcome === "complete" && call.status >= 400 ? chip(String(call.status), "warn") : chip(call.outcome);
}

function callRow(call) {
  const at = clock(call.at + call.duration, true);
  const model = call.provider ? `${call.provider} ${call.model}` : "–";
  const row = make("tr", { class: view.fresh.has(call.id) ? "fresh" : "", onclick: () => showCall(call.id) },
    make("td", {}, make("button", { type: "button", "aria-label": `Call at ${at}: its decisions` }, at)),
    make("td", { class: call.route ? "" : "none", title: call.route || call.model }, call.route || call.model || call.endpoint),
    make("td", { class: call.provider ? "wide" : "wide none", title: model }, model), make("td", {}, result(call)),
    make("td", { class: "wide" }, call.cache ? chip(call.cache) : ""), make("td", { class: "number" }, seconds(call.duration)),
    make("td", { class: "number wide extra" }, call.stream ? seconds(call.first_content) : ""), make("td", { class: "number wide" }, call.tokens === null ? "" : count(call.tokens)),
    make("td", { class: "number wide" }, call.cost === null ? "" : dollars(call.cost)), make("td", { class: "wide extra" }, call.caller));
  return row;
}

function renderCalls() {
  const focused = document.activeElement?.closest("#calls tr")?.dataset.id;
  const rows = view.calls.map((call) => { const row = callRow(call); row.dataset.id = call.id; return row; });
  $("calls").tBodies[0].replaceChildren(...rows);
  view.fresh.clear();
  if (focused) rows.find((row) => row.dataset.id === focused)?.querySelector("button").focus({ preventScroll: true });
  $("no-calls").hidden = rows.length > 0;
  $("more").hidden = !view.more;
  if (!rows.length) {
    const first = `curl ${location.origin}/v1/chat/completions -H 'content-type: application/json' \\\n  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}'`;
    $("no-calls").replaceChildren(...($("kind").value ? ["No such calls among the recent ones."] : ["No calls yet. The first one could be:", make("code", {}, first)]));
  }
}

function renderCharts() {
  const step = { "5m": 5, "1h": 30, "24h": 600 }[view.range];
  for (const chart of charts) chart.update(view.points, step, view.totals);
}

// ---- one call ----

const BAD = /^(block|error|timeout|status|unavailable|connect|denied|interrupted|upstream_interrupted|missing)/;
const WARN = /^(flag|redact|limited|quota|guard_blocked|not_scanned|estimated|cancelled|client_disconnect|bypass|refused|paused)/;
const GOOD = /^(ok|complete|hit|allow|counted)/;

async function showCall(id) {
  const answer = await ask(`admin/requests/${encodeURIComponent(id)}`);
  const body = $("call-body");
  if (!answer.ok) {
    body.replaceChildren(make("p", { class: "empty" }, (await message(answer)) || "This call could not be read."));
  } else {
    const call = await answer.json();
    const { decisions, ...record } = call;
    body.replaceChildren(
      make("p", { class: "facts" }, chip(call.outcome ?? ""), make("span", {}, new Date(call.started * 1000).toLocaleString()), make("code", { class: "mono" }, call.id)),
      make("ol", { class: "steps" }, ...decisions.map((each) => step(each, call.duration || 0))),
      make("details", {}, make("summary", {}, "The whole record"), make("pre", { tabindex: "0" }, JSON.stringify(record, null, 2))));
  }
  if (!$("call").open) $("call").showModal();
}

function step(each, duration) {
  const tone = BAD.test(each.verdict) ? "bad" : WARN.test(each.verdict) ? "warn" : GOOD.test(each.verdict) ? "good" : "";
  const line = make("div", { class: "line" }, make("span", { class: "step" }, each.step), make("span", { class: "verdict" }, WORDS[each.verdict] ?? each.verdict),
    each.seconds === undefined || each.seconds === null ? null : make("span", { class: "took" }, seconds(each.seconds)));
  const parts = [line];
  if (each.detail) parts.push(make("div", { class: "detail" }, each.detail));
  if (each.seconds && duration && each.step !== "end") {
    const bar = make("i");
    bar.style.width = `${Math.min(100, (100 * each.seconds) / duration).toFixed(1)}%`;
    parts.push(make("div", { class: "length", "aria-hidden": "true" }, bar));
  }
  return make("li", { class: tone }, ...parts);
}

// ---- talking to the gateway ----

let stream = null;
let connection = "connecting";

function headers() {
  const key = sessionStorage.getItem(KEPT.access);
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function ask(path, more = {}) {
  let answer = await fetch(path, { cache: "no-store", ...more, headers: headers() });
  if (answer.status === 401 && (await renew())) answer = await fetch(path, { cache: "no-store", ...more, headers: headers() });
  return answer;
}

async function message(answer) {
  try { return (await answer.json()).error.message; } catch { return ""; }
}

async function post(path, body) {
  return fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

function keep(tokens) {
  sessionStorage.setItem(KEPT.access, tokens.access_token);
  if (tokens.refresh_token) sessionStorage.setItem(KEPT.refresh, tokens.refresh_token);
}

function forget() {
  sessionStorage.removeItem(KEPT.access);
  sessionStorage.removeItem(KEPT.refresh);
}

async function renew() {
  const refresh = sessionStorage.getItem(KEPT.refresh);
  if (!refresh) return false;
  const answer = await post("auth/refresh", { refresh_token: refresh });
  if (!answer.ok) { forget(); return false; }
  keep(await answer.json());
  return true;
}

function showGate(text) {
  stream?.abort();
  $("board").hidden = true;
  $("leave").hidden = true;
  $("ranges").hidden = true;
  $("status").replaceChildren();
  $("gate-error").textContent = text;
  if ($("gate").hidden) { $("gate").hidden = false; $("by-account").username.focus(); }
}

function showBoard() {
  const was = $("board").hidden;
  $("gate").hidden = true;
  $("board").hidden = false;
  $("ranges").hidden = false;
  $("leave").hidden = !sessionStorage.getItem(KEPT.access);
  if (was) renderCharts();
}

function take(name, data) {
  if (name === "overview") {
    Object.assign(view, { points: data.points, tables: data.tables, totals: data.totals });
    if (!view.held && !$("kind").value) Object.assign(view, { calls: data.calls, more: data.more });
    showBoard();
  } else {
    if (data.points.length) view.points = [...view.points, ...data.points].slice(data.points.length);
    if (data.tables) view.tables = data.tables;
    if (data.totals) view.totals = data.totals;
    if (data.calls.length && !view.held && !$("kind").value) {
      view.fresh = new Set(data.calls.map((call) => call.id));
      view.calls = [...data.calls, ...view.calls].slice(0, ROWS);
      view.more = view.calls.length === ROWS ? view.calls[ROWS - 1].id : view.more;
    }
  }
  view.state = data.state;
  renderStatus();
  renderTiles();
  if (name === "overview" || data.points.length) renderCharts();
  if (name === "overview" || data.tables) renderTables();
  if (!view.held && !$("kind").value && (name === "overview" || data.calls.length)) renderCalls();
}

async function listen(mine) {
  const answer = await ask(`admin/live?span=${view.range}`, { signal: mine.signal });
  if (answer.status === 401 || answer.status === 403) {
    const had = sessionStorage.getItem(KEPT.access);
    forget();
    showGate(answer.status === 403 || had ? await message(answer) : "");
    return false;
  }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  connection = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return true;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n");
      take(name.replace("event: ", ""), JSON.parse(data.replace("data: ", "")));
    }
  }
}

async function live() {
  stream?.abort();
  const mine = (stream = new AbortController());
  let pause = 500;
  while (!mine.signal.aborted && !document.hidden) {
    try {
      if (!(await listen(mine))) return;
      pause = 500;
    } catch (error) {
      if (mine.signal.aborted) return;
      connection = "no answer, trying again";
      renderStatus();
      if (!view.state && $("gate").hidden) $("status").replaceChildren(make("span", { class: "dot down" }), connection);
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(10000, pause * 2);
  }
}

// ---- what a person does ----

async function loadCalls(before = "") {
  const query = [$("kind").value, `limit=${ROWS}`, before && `before=${before}`].filter(Boolean).join("&");
  const answer = await ask(`admin/requests?${query}`);
  if (!answer.ok) return;
  const { requests, next } = await answer.json();
  view.calls = before ? [...view.calls, ...requests] : requests;
  view.more = next;
  renderCalls();
}

function setHeld(held) {
  view.held = held;
  $("hold").setAttribute("aria-pressed", String(held));
  $("hold").textContent = held ? "Paused" : "Pause";
  if (!held) loadCalls();
}

async function enter(event, tokens) {
  event.preventDefault();
  $("gate-error").textContent = "";
  try {
    const found = await tokens();
    if (!found) return;
    keep(found);
    event.target.reset();
    live();
  } catch {
    $("gate-error").textContent = "The gateway does not answer.";
  }
}

$("by-account").addEventListener("submit", (event) => enter(event, async () => {
  const form = event.target;
  const answer = await post("auth/login", { username: form.username.value, password: form.password.value });
  if (answer.ok) return answer.json();
  $("gate-error").textContent = answer.status === 404 ? "This gateway has no accounts: use its admin key." : (await message(answer)) || "That did not work.";
  return null;
}));
$("by-key").addEventListener("submit", (event) => enter(event, async () => ({ access_token: event.target.key.value.trim() })));
$("leave").addEventListener("click", () => {
  const refresh = sessionStorage.getItem(KEPT.refresh);
  if (refresh) fetch("auth/logout", { method: "POST", headers: { ...headers(), "content-type": "application/json" }, body: JSON.stringify({ refresh_token: refresh }) });
  forget();
  Object.assign(view, { points: [], tables: null, totals: null, calls: [], state: null });
  renderCalls();
  showGate("");
});
$("ranges").addEventListener("change", (event) => {
  view.range = event.target.value;
  localStorage.setItem(KEPT.range, view.range);
  live();
});
$("kind").addEventListener("change", () => loadCalls());
$("hold").addEventListener("click", () => setHeld(!view.held));
$("more").addEventListener("click", () => { if (!view.held) { view.held = true; $("hold").setAttribute("aria-pressed", "true"); $("hold").textContent = "Paused"; } loadCalls(view.more); });
$("find").addEventListener("submit", (event) => { event.preventDefault(); const id = event.target.id.value.trim(); if (id) showCall(id); });
$("call").addEventListener("click", (event) => { if (event.target === $("call")) $("call").close(); });
document.addEventListener("visibilitychange", () => { if (document.hidden) stream?.abort(); else if ($("gate").hidden) live(); });

const kept = localStorage.getItem(KEPT.range);
if (["5m", "1h", "24h"].includes(kept)) view.range = kept;
document.querySelector(`input[name=range][value="${view.range}"]`).checked = true;
$("charts").append(...charts.map((chart) => chart.element));
live();
