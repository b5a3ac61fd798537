// Asks the server once a second how it is doing, and shows that.

import { element, failure, forgetKey, headers, key, milliseconds, number } from "./common.js";
import { percent, say, useKey } from "./common.js";
import { HeatMap } from "./heat_map.js";
import { drawPlot } from "./plot.js";
import { PromptBox } from "./prompt.js";

const POLL_MS = 1000;
const AWAY_POLL_MS = 3000;
const TIMEOUT_MS = 10000;
const SPEED_SECONDS = 3;
const LATENCY_SECONDS = 10;
const PLOT_SECONDS = 120;
// The last colour of the heat map: the most rows of late, but for a few experts that would make all
// others alike. It falls slowly, so that the map fades when nothing is asked any more.
const BEYOND_SCALE = 1 / 500;
const SCALE_HALF_LIFE_SECONDS = 20;
const LEAST_SCALE = 4;

const WORKER_MOODS = { ready: "good", joining: "warn", loading: "warn", draining: "warn" };

let history = []; // What was answered of late, oldest first.
let speeds = []; // {seconds, speed}, oldest first.
let scale = LEAST_SCALE;
let timer = null;
let asking = false;
let awaySince = null;

const heatMap = new HeatMap(element("heat"), (cell, spoken) => {
  const words = cell
    ? `layer ${cell.layer}, expert ${cell.expert}: ${number(cell.rows)} rows, ` +
      `${percent(cell.share)} of the layer's`
    : "Point at an expert, or choose one with the arrow keys, to see its rows.";
  text("heat-cell", words);
  if (spoken) text("heat-spoken", words);
});
const prompt = new PromptBox(wantKey);

function text(id, value) {
  if (element(id).textContent !== value) element(id).textContent = value;
}

function setState(mood, words) {
  element("state").dataset.mood = mood;
  text("state", words);
}

// Asking.

function schedule(delay) {
  clearTimeout(timer);
  timer = document.hidden || !element("key-form").hidden ? null : setTimeout(poll, delay);
}

/** What the server answers, or null if it wants a key. */
async function ask() {
  const request = {
    headers: headers(),
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  const response = await fetch("live", request).catch(() => {
    throw Object.assign(new Error("the server does not answer"), { silent: true });
  });
  if (response.status === 401) return null;
  if (!response.ok) throw await failure(response);
  return response.json();
}

async function poll() {
  if (asking) return;
  asking = true;
  let delay = POLL_MS;
  try {
    const live = await ask();
    if (live === null) return wantKey();
    awaySince = null;
    show(live);
    say("trouble", "");
  } catch (error) {
    delay = AWAY_POLL_MS;
    showAway(error);
  } finally {
    asking = false;
    schedule(delay);
  }
}

function showAway(error) {
  awaySince ??= new Date();
  setState("bad", error.silent ? "no answer" : "error");
  element("live").classList.add("stale");
  const since = awaySince.toLocaleTimeString("en", { hour12: false });
  say("trouble", `Since ${since}: ${error.message}. Asking again every few seconds.`);
}

// The key.

function wantKey() {
  const tried = key() !== null;
  forgetKey();
  setState("warn", "locked");
  say("trouble", "");
  say("key-error", tried ? "The server does not take this key." : "");
  element("live").hidden = true;
  element("forget-key").hidden = true;
  element("key-form").hidden = false;
  element("key").value = "";
  element("key").focus();
}

function submitKey(event) {
  event.preventDefault();
  const given = element("key").value.trim();
  if (given === "") return;
  if (!/^[\x21-\x7e]+$/.test(given)) {
    return say("key-error", "A key has no spaces, and no letters beyond A to Z.");
  }
  useKey(given);
  element("key").value = "";
  element("key-form").hidden = true;
  poll();
}

// Showing.

function show(live) {
  element("live").hidden = false;
  element("live").classList.remove("stale");
  element("forget-key").hidden = key() === null;
  setState(live.ready ? "good" : "warn", live.state);
  text("name", live.name);
  document.title = `${live.name} – Pregate`;
  text("version", `Pregate ${live.version}`);
  showWorkers(live.cluster);
  if (live.model === null) {
    history = [];
    speeds = [];
    text("shape", "the model is being loaded");
    return;
  }
  text("shape", describeShape(live.model));
  remember(live);
  showNumbers(live);
  showExperts(live);
  prompt.serve(live.name, live.model);
}

function describeShape(model) {
  const parts = [model.architecture, `${number(model.layers)} layers`];
  if (model.experts > 0) {
    const shared = model.shared_expert ? " and a shared one" : "";
    parts.push(`${model.experts} experts a layer, ${model.experts_per_token} a token${shared}`);
  }
  parts.push(`hidden size ${number(model.hidden_size)}`, `weights ${model.weights}`);
  parts.push(`context ${number(model.context_tokens)} tokens`);
  return parts.join(" · ");
}

function remember(live) {
  const last = history.at(-1);
  if (last && live.seconds < last.seconds) {
    history = []; // It was started anew.
    speeds = [];
    scale = LEAST_SCALE;
  }
  history.push(live);
  while (history[0].seconds < live.seconds - LATENCY_SECONDS - 2) history.shift();
}

/** The oldest answer that is at most so many seconds older than the latest. */
function since(seconds) {
  const latest = history.at(-1);
  return history.find((live) => live.seconds >= latest.seconds - seconds - 0.5);
}

function speedNow() {
  const latest = history.at(-1);
  const before = since(SPEED_SECONDS);
  const took = latest.seconds - before.seconds;
  return took > 0 ? (latest.tokens.generated - before.tokens.generated) / took : null;
}

function showMean(id, field) {
  const latest = history.at(-1);
  const before = since(LATENCY_SECONDS);
  const count = latest[field].count - before[field].count;
  const seconds = latest[field].seconds - before[field].seconds;
  text(id, count > 0 ? milliseconds(seconds / count) : "–");
  text(`${id}-note`, `mean over ${LATENCY_SECONDS} s`);
}

function showNumbers(live) {
  const speed = speedNow();
  text("speed", speed === null ? "–" : number(speed));
  if (speed !== null) speeds.push({ seconds: live.seconds, speed });
  while (speeds.length > 0 && speeds[0].seconds < live.seconds - PLOT_SECONDS) speeds.shift();
  const most = Math.max(0, ...speeds.map((point) => point.speed));
  text("speed-note", `peak ${number(most)} in the last ${PLOT_SECONDS} s`);
  drawPlot(element("speed-plot"), speeds, live.seconds, PLOT_SECONDS);

  const { requests, limits } = live;
  text("running", number(requests.running));
  text("running-note", `at most ${number(limits.running)} at once`);
  text("waiting", number(requests.waiting));
  const forExperts = `${number(requests.waiting_for_experts)} for experts`;
  const room = `at most ${number(limits.waiting)}`;
  text("waiting-note", requests.waiting_for_experts > 0 ? forExperts : room);
  showMean("first-token", "first_token");
  showMean("inter-token", "inter_token");
  text("kv", percent(live.kv_cache_used));
  text("kv-note", `of ${number(limits.kv_cache_tokens)} tokens`);
  element("kv-meter").value = live.kv_cache_used;
}

function showExperts({ experts, model }) {
  const none = experts.rows.length === 0 || model.experts === 0;
  for (const id of ["heat", "heat-legend", "heat-cell", "layers-box"]) element(id).hidden = none;
  if (none) return text("heat-about", "This model has no experts.");
  text(
    "heat-about",
    `Layers down, experts across: the rows each got of late (a row of ` +
      `${experts.half_life_seconds} s ago counts half).`,
  );
  const descending = experts.rows.flat().sort((a, b) => b - a);
  const most = descending[Math.floor(descending.length * BEYOND_SCALE)];
  scale = Math.max(most, LEAST_SCALE, scale * 2 ** (-1 / SCALE_HALF_LIFE_SECONDS));
  text("heat-max", `≥ ${number(Math.round(scale))} rows`);
  heatMap.show(experts.layers, experts.rows, scale);
  if (element("layers-box").open) showLayers(experts);
}

function showLayers(experts) {
  const lines = experts.rows.map((row, i) => {
    const sum = row.reduce((total, rows) => total + rows, 0);
    const most = Math.max(...row);
    const used = row.filter((rows) => rows > 0).length;
    const busiest = sum === 0 ? ["–", "–"] : [String(row.indexOf(most)), percent(most / sum)];
    return [String(experts.layers[i]), ...busiest, `${used} of ${row.length}`];
  });
  fill(element("layers"), lines, [2, 3]);
}

/** Changes only what is another, so that selections and screen readers keep their place. */
function fill(body, lines, numbers) {
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((line, i) => {
    const row = body.rows[i] ?? body.insertRow();
    line.forEach((value, j) => {
      const cell = row.cells[j] ?? row.insertCell();
      cell.classList.toggle("number", numbers.includes(j));
      if (cell.textContent !== value) cell.textContent = value;
    });
  });
}

function showWorkers(cluster) {
  element("workers-box").hidden = cluster === null;
  if (cluster === null) return text("workers-about", "None: the experts are in this process.");
  const missing = cluster.missing_experts + cluster.unanswered_experts;
  const all = `${number(cluster.experts)} experts, all held`;
  const some = `${number(missing)} of ${number(cluster.experts)} experts cannot be reached`;
  text("workers-about", missing === 0 ? all : some);
  const lines = cluster.workers.map((worker) => [
    worker.name,
    worker.reason ? `${worker.state}: ${worker.reason}` : worker.state,
    worker.experts === worker.experts_assigned
      ? number(worker.experts)
      : `${number(worker.experts)} of ${number(worker.experts_assigned)}`,
    number(worker.queue_depth),
  ]);
  fill(element("workers"), lines, [2, 3]);
  cluster.workers.forEach((worker, i) => {
    const cell = element("workers").rows[i].cells[1];
    cell.dataset.mood = WORKER_MOODS[worker.state] ?? "bad";
  });
}

element("key-form").addEventListener("submit", submitKey);
element("forget-key").addEventListener("click", () => {
  forgetKey();
  poll();
});
element("layers-box").addEventListener("toggle", () => {
  if (history.length > 0) showLayers(history.at(-1).experts);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) schedule(0);
  else poll();
});
poll();
