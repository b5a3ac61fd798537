// A line of what was measured over the last seconds.

/** `points`: {seconds, speed}, oldest first; `end`: the right edge; `span`: how much is shown. */
export function drawPlot(canvas, points, end, span) {
  const dpr = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * dpr);
  canvas.height = Math.round(height * dpr);
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.scale(dpr, dpr);
  context.strokeStyle = style.getPropertyValue("--line");
  context.beginPath();
  context.moveTo(0, height - 0.5);
  context.lineTo(width, height - 0.5);
  context.stroke();
  const most = Math.max(1, ...points.map((point) => point.speed));
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.beginPath();
  for (const { seconds, speed } of points) {
    const x = width * (1 - (end - seconds) / span);
    context.lineTo(x, height - 1 - (height - 4) * (speed / most));
  }
  context.stroke();
}
