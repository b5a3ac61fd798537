// Rows per layer and expert, drawn on a canvas, with one cell that a pointer or the arrow keys
// choose and a sentence tells of.

const RAMP_STEPS = 256;
const RAMP_STOPS = ["--heat-0", "--heat-1", "--heat-2", "--heat-3", "--heat-4"];
const LARGEST_CELL = 24;
const MAX_HEIGHT = 480;
const GAP_FROM = 6; // Smaller cells touch.
const LABEL_ROOM = 26; // Left of the cells.
const LABEL_HEIGHT = 16; // Under them.
const LABEL_DISTANCE = 44;

function channels(color) {
  const digits = color.trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function makeRamp(style) {
  const stops = RAMP_STOPS.map((name) => channels(style.getPropertyValue(name)));
  return Array.from({ length: RAMP_STEPS }, (_, step) => {
    const place = (step / (RAMP_STEPS - 1)) * (stops.length - 1);
    const from = Math.min(Math.floor(place), stops.length - 2);
    const mixed = stops[from].map((low, i) => low + (stops[from + 1][i] - low) * (place - from));
    return `rgb(${mixed.map(Math.round).join(",")})`;
  });
}

/** The smallest of 1, 2, 5, 10, ... cells that are at least `distance` apart. */
function labelStep(cell, distance) {
  for (let power = 1; ; power *= 10) {
    for (const factor of [1, 2, 5]) {
      if (factor * power * cell >= distance) return factor * power;
    }
  }
}

export class HeatMap {
  /**
   * `tell(cell, spoken)`: called with {layer, expert, rows, share}, or null when none is chosen.
   * `spoken`: it was chosen by a key.
   */
  constructor(canvas, tell) {
    this.canvas = canvas;
    this.map = document.createElement("canvas"); // What is shown, without what is chosen.
    this.tell = tell;
    this.layers = [];
    this.rows = [];
    this.size = null; // As drawn.
    this.chosen = null; // [row, column]
    this.scale = 1;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerdown", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("blur", () => this.choose(null));
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  /** `layers`: their numbers; `rows[i][j]`: of layer i and expert j. `scale`: what is darkest. */
  show(layers, rows, scale) {
    this.layers = layers;
    this.rows = rows;
    this.scale = scale;
    const exists = this.chosen && rows[this.chosen[0]]?.[this.chosen[1]] !== undefined;
    this.draw();
    this.choose(exists ? this.chosen : null);
  }

  /** Sizes in CSS pixels. */
  measure() {
    const numLayers = this.rows.length;
    const numExperts = this.rows[0].length;
    const fullWidth = this.canvas.clientWidth;
    const width = fullWidth - LABEL_ROOM;
    const cell = Math.min(LARGEST_CELL, width / numExperts);
    const tallest = Math.min(LARGEST_CELL, MAX_HEIGHT / numLayers);
    // Wide and low rather than square: there are more experts than layers.
    const height = numLayers * Math.max(Math.min(cell, tallest), Math.min(tallest, 14));
    return { numLayers, numExperts, width, height, fullWidth, fullHeight: height + LABEL_HEIGHT };
  }

  draw() {
    if (this.rows.length === 0 || this.canvas.clientWidth <= LABEL_ROOM) return;
    const size = this.measure();
    this.size = size;
    const dpr = devicePixelRatio || 1;
    this.canvas.style.height = `${size.fullHeight}px`;
    for (const canvas of [this.canvas, this.map]) {
      canvas.width = Math.round(size.fullWidth * dpr);
      canvas.height = Math.round(size.fullHeight * dpr);
    }
    const style = getComputedStyle(this.canvas);
    const context = this.map.getContext("2d");
    this.drawCells(context, size, dpr, makeRamp(style));
    context.scale(dpr, dpr);
    this.drawLabels(context, size, style);
    this.canvas.getContext("2d").scale(dpr, dpr);
    this.mark();
  }

  mark() {
    if (!this.size) return;
    const { fullWidth, fullHeight } = this.size;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, fullWidth, fullHeight);
    context.drawImage(this.map, 0, 0, fullWidth, fullHeight);
    this.drawChosen(context, this.size, getComputedStyle(this.canvas));
  }

  // In device pixels, so that edges are sharp at any size.
  drawCells(context, size, dpr, ramp) {
    const left = LABEL_ROOM * dpr;
    const width = (size.width * dpr) / size.numExperts;
    const height = (size.height * dpr) / size.numLayers;
    const gap = Math.min(width, height) >= GAP_FROM * dpr ? Math.round(dpr) : 0;
    this.rows.forEach((row, i) => {
      const top = Math.round(i * height);
      const cellHeight = Math.round((i + 1) * height) - top - gap;
      row.forEach((rows, j) => {
        const from = Math.round(left + j * width);
        const heat = Math.min(1, rows / this.scale);
        context.fillStyle = ramp[Math.round(Math.sqrt(heat) * (RAMP_STEPS - 1))];
        context.fillRect(from, top, Math.round(left + (j + 1) * width) - from - gap, cellHeight);
      });
    });
  }

  drawLabels(context, size, style) {
    const cellWidth = size.width / size.numExperts;
    const cellHeight = size.height / size.numLayers;
    context.font = `11px ${style.fontFamily}`;
    context.fillStyle = style.getPropertyValue("--quiet");
    context.textAlign = "right";
    context.textBaseline = "middle";
    const layerStep = labelStep(cellHeight, 14);
    for (let i = 0; i < size.numLayers; i += layerStep) {
      context.fillText(this.layers[i], LABEL_ROOM - 6, Math.max(6, (i + 0.5) * cellHeight));
    }
    context.textAlign = "center";
    context.textBaseline = "bottom";
    const expertStep = labelStep(cellWidth, LABEL_DISTANCE);
    for (let j = 0; j < size.numExperts; j += expertStep) {
      const half = context.measureText(j).width / 2;
      const middle = LABEL_ROOM + (j + 0.5) * cellWidth;
      const inside = Math.max(LABEL_ROOM + half, Math.min(size.fullWidth - half, middle));
      context.fillText(j, inside, size.fullHeight);
    }
  }

  drawChosen(context, size, style) {
    if (!this.chosen) return;
    const [i, j] = this.chosen;
    const width = size.width / size.numExperts;
    const height = size.height / size.numLayers;
    context.strokeStyle = style.getPropertyValue("--mark");
    context.lineWidth = 2;
    const x = LABEL_ROOM + j * width;
    context.strokeRect(x, Math.max(1, i * height), Math.max(3, width), Math.max(3, height));
  }

  choose(cell, spoken = false) {
    this.chosen = cell;
    this.mark();
    if (!cell) return this.tell(null, spoken);
    const [i, j] = cell;
    const ofLayer = this.rows[i].reduce((sum, rows) => sum + rows, 0);
    const rows = this.rows[i][j];
    const share = ofLayer > 0 ? rows / ofLayer : 0;
    this.tell({ layer: this.layers[i], expert: j, rows, share }, spoken);
  }

  point(event) {
    if (!this.size) return;
    const { size } = this;
    const i = Math.floor((event.offsetY / size.height) * size.numLayers);
    const j = Math.floor(((event.offsetX - LABEL_ROOM) / size.width) * size.numExperts);
    const inside = i >= 0 && i < size.numLayers && j >= 0 && j < size.numExperts;
    this.choose(inside ? [i, j] : null);
  }

  press(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Escape") return this.choose(null);
    const move = moves[event.key];
    if (!move || !this.size) return;
    event.preventDefault();
    const { numLayers, numExperts } = this.size;
    const [i, j] = this.chosen ?? [-move[0], -move[1]];
    const limit = (value, count) => Math.max(0, Math.min(count - 1, value));
    this.choose([limit(i + move[0], numLayers), limit(j + move[1], numExperts)], true);
  }
}
