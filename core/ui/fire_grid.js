// Text whose tokens can be picked, over a picture with a column for each token and a row for each site. Amber: how many of the site's
// units exceed their own 99.9th percentile there. Exactly zero is the background.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector('.fg');
  root.replaceChildren();
  const { pieces, sites, labels, fires, widths, strength, picked } = data;
  const columns = pieces.length, rows = sites.length;
  const pick = (token) => setTriggerValue('token', token);

  const text = element('div', 'text');
  const buttons = pieces.map((piece, i) => {
    const node = element('button', i === picked ? 'on' : '', piece);
    node.type = 'button';
    node.style.setProperty('--heat', strength[i].toFixed(3));
    node.setAttribute('aria-label', 'token ' + (i + 1) + ': ' + labels[i]);
    node.setAttribute('aria-pressed', String(i === picked));
    node.onclick = () => pick(i);
    node.onpointerenter = () => { over = i; draw(); };
    node.onpointerleave = () => { over = -1; draw(); };
    text.append(node);
    if (piece.includes('↵')) text.append(element('br'));
    return node;
  });

  const frame = element('div', 'frame');
  const names = element('div', 'names');
  const stage = element('div', 'stage');
  const canvas = element('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', data.alt);
  const tip = element('div', 'tip');
  tip.hidden = true;
  stage.append(canvas, tip);
  frame.append(names, stage);
  root.append(text, frame);

  const every = rows > 16 ? 5 : rows > 8 ? 2 : 1;
  const height = Math.max(5, Math.min(14, Math.round(300 / Math.max(rows, 1))));
  const order = sites.map((_, i) => rows - 1 - i); // the first layer at the bottom
  for (const [line, row] of order.entries()) {
    if (row % every && row !== rows - 1) continue;
    const name = element('span', '', sites[row]);
    name.style.top = (line + 0.5) * height + 'px';
    names.append(name);
  }
  names.style.height = stage.style.height = rows * height + 'px';
  let top = 1;
  for (const row of fires) for (const value of row) top = Math.max(top, value);
  let over = -1, line = -1;

  const draw = () => {
    const width = stage.clientWidth;
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(rows * height * ratio);
    canvas.style.width = width + 'px';
    canvas.style.height = rows * height + 'px';
    const pen = canvas.getContext('2d');
    pen.scale(ratio, ratio);
    const style = getComputedStyle(root);
    const cell = Math.min(26, width / Math.max(columns, 1));
    pen.fillStyle = style.getPropertyValue('--na-surface');
    pen.fillRect(0, 0, cell * columns, rows * height);
    pen.fillStyle = style.getPropertyValue('--na-activation');
    const gap = cell > 5 ? 1 : 0;
    for (const [at, row] of order.entries()) {
      for (let i = 0; i < columns; i++) {
        const value = fires[row][i];
        if (!value) continue;
        pen.globalAlpha = 0.12 + 0.88 * Math.sqrt(value / top);
        pen.fillRect(i * cell, at * height, cell - gap, height - (height > 6 ? 1 : 0));
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = style.getPropertyValue('--na-text');
    const box = (i, weight) => {
      pen.lineWidth = weight;
      pen.strokeRect(i * cell + 0.5, 0.5, Math.max(2, cell - 1), rows * height - 1);
    };
    if (over >= 0) box(over, 1);
    if (picked >= 0) box(picked, 2);
    buttons.forEach((node, i) => node.classList.toggle('over', i === over));
    stage.cell = cell;
  };

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / (stage.cell || 1));
    line = Math.floor((event.clientY - box.top) / height);
    return column >= 0 && column < columns && line >= 0 && line < rows ? column : -1;
  };
  canvas.onpointermove = (event) => {
    const column = place(event);
    if (column !== over) { over = column; draw(); }
    tip.hidden = column < 0;
    if (column < 0) return;
    const row = order[line];
    tip.textContent = `${sites[row]} · “${labels[column]}” · ${fires[row][column]} of ${widths[row].toLocaleString('en')} units above their own 99.9th percentile`;
    const box = stage.getBoundingClientRect();
    tip.style.left = Math.min(event.clientX - box.left + 12, Math.max(0, box.width - 250)) + 'px';
    tip.style.top = event.clientY - box.top + 14 + 'px';
  };
  canvas.onpointerleave = () => { over = -1; tip.hidden = true; draw(); };
  canvas.onclick = (event) => {
    const column = place(event);
    if (column >= 0) pick(column);
  };
  const watch = new ResizeObserver(draw);
  watch.observe(stage);
  draw();
  return () => watch.disconnect();
}
