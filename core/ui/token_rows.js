/* Rows of text, each token's background its activation, in bands: what the token view and the review queue draw. Built with textContent
   only, so that no token is ever markup. Switches act here at once; whoever mounts it is only told (`tell`, `fire`). */

const SHOWN = { 5: [5, 5], 16: [22, 10] };
const SWITCHES = [
  ["window", "How much of each text is shown", [
    ["5", "±5", "five tokens on each side, peaks in one column"],
    ["16", "±16", "33 tokens: 22 before the peak and 10 after, since a unit sees only what stands to the left"],
    ["all", "whole", "the whole context, with its line breaks"],
  ]],
  ["scale", "What the strongest colour stands for", [
    ["unit", "unit", "the same colour scale for every text: the unit's strongest activation"],
    ["text", "this text", "each text on its own scale: its own strongest activation"],
  ]],
  ["curve", "How activation becomes colour", [
    ["linear", "linear", "colour in proportion to activation"],
    ["log", "log", "log10(1 + 9 × share of the scale): weak activations become visible"],
  ]],
];
const FAINT = 0.02; /* of the largest effect: what is smaller has no underline */
const encoder = new TextEncoder();

function bytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

function hex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

class TokenView {
  constructor(root) {
    this.root = root;
    this.bar = root.querySelector(".bar");
    this.list = root.querySelector(".list");
    this.tip = root.querySelector(".tip");
    this.sent = [];
    this.list.onmouseover = (event) => this.hover(event.target);
    this.list.onmouseleave = () => this.hide();
    this.list.addEventListener("focusout", () => this.hide());
    this.list.addEventListener("focusin", (event) => this.hover(event.target));
    this.list.onclick = (event) => this.click(event);
    this.list.onkeydown = (event) => this.key(event);
  }

  receive({ view, body }) {
    const asked = JSON.stringify(view);
    const echo = this.sent.includes(asked);
    if (!this.view || (asked !== this.asked && !echo)) this.view = view;
    if (asked !== this.asked && echo) this.sent = this.sent.slice(this.sent.indexOf(asked) + 1);
    this.asked = asked;
    const state = body.key + JSON.stringify(this.view);
    if (state === this.drawn) return;
    if (body.key !== this.body?.key) this.decode(body);
    this.draw();
  }

  decode(body) {
    this.body = body;
    this.open = new Set();
    const index = new Uint16Array(bytes(body.index).buffer);
    const quantised = new Int16Array(bytes(body.activations).buffer);
    let at = 0;
    this.rows = body.rows.map((row) => {
      const end = at + row.n;
      const made = { ...row, index: index.subarray(at, end), values: quantised.subarray(at, end) };
      at = end;
      return made;
    });
  }

  /* The activation of a token, or null where it was not computed. */
  value(row, i) {
    return row.values[i] === -32768 ? null : row.values[i] * row.scale;
  }

  /* By how much the token's own log-probability changes, or null where that is not known. */
  effect(row, i) {
    if (!row.effect) return null;
    row.effects ??= new Int16Array(bytes(row.effect).buffer);
    return row.effects[i] === -32768 ? null : row.effects[i] * row.effectScale;
  }

  share(value, limit) {
    if (!limit) return 0;
    const share = Math.min(1, Math.abs(value) / limit);
    return this.view.curve === "log" ? Math.log10(1 + 9 * share) : share;
  }

  number(value, digits = this.body.digits) {
    if (value === null) return "–";
    const written = value.toFixed(digits);
    return Number(written) === 0 ? written.replace("-", "") : written.replace("-", "−");
  }

  text(piece) {
    const broken = this.view.window === "all" ? "↵\n" : "↵";
    return this.body.pieces[piece].replaceAll("\n", broken).replaceAll("\t", "⇥").replaceAll("\r", "␍");
  }

  draw() {
    this.drawn = this.body.key + JSON.stringify(this.view);
    this.root.dataset.window = this.view.window;
    this.hide();
    this.drawBar();
    const all = document.createDocumentFragment();
    let at = 0;
    this.body.bands.forEach((band, which) => {
      const head = element("div", "band");
      head.append(element("h3", "", band.title), element("span", "", band.note));
      all.append(head);
      if (!band.n) all.append(element("p", "none", band.empty));
      const hidden = band.n - band.initial.length;
      if (hidden && !this.open.has(which)) {
        for (const i of band.initial) all.append(this.drawRow(at + i));
        head.append(this.drawMore(which, band.n));
      } else for (let i = 0; i < band.n; i++) all.append(this.drawRow(at + i));
      at += band.n;
    });
    this.list.replaceChildren(all);
  }

  drawMore(which, count) {
    const more = element("button", "more", `show all ${count}`);
    more.type = "button";
    more.onclick = () => {
      this.open.add(which);
      this.draw();
    };
    return more;
  }

  drawBar() {
    const { low, high, title } = this.body;
    const own = this.view.scale === "text";
    const head = element("div", "head");
    head.append(element("h2", "", title), this.drawLegend(low, high, own), this.drawSave());
    this.bar.replaceChildren(head);
    for (const [name, label, choices] of SWITCHES) {
      const group = element("div", "switch");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", label);
      for (const [value, shown, help] of choices) {
        const button = element("button", "", shown);
        button.type = "button";
        button.title = help;
        button.dataset.choice = `${name}-${value}`;
        button.setAttribute("aria-pressed", String(this.view[name] === value));
        button.onclick = () => this.choose(name, value);
        group.append(button);
      }
      this.bar.append(group);
    }
    this.bar.append(element("span", "note", `colour = activation, on ${own ? "each text's own" : (this.body.whose ?? "this unit's")} scale`));
  }

  drawLegend(low, high, own) {
    const legend = element("div", "legend");
    const stops = [];
    const limit = Math.max(Math.abs(low), Math.abs(high));
    for (let i = low < 0 ? -8 : 0; i <= 8; i++) {
      const mix = `calc(100% * pow(${this.share((i / 8) * limit, limit).toFixed(3)}, var(--na-lift, 1)))`;
      stops.push(`color-mix(in srgb, var(${i < 0 ? "--na-negative-mark" : "--na-mark"}) ${mix}, transparent)`);
    }
    const ramp = element("span", "ramp");
    ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
    const ends = own ? ["− text's largest", "text's largest"] : this.body.ends ?? [this.number(-limit), this.number(limit)];
    legend.append(element("span", "", low < 0 ? ends[0] : "0"), ramp, element("span", "", ends[1]));
    legend.append(element("span", "x", "\u2003"), element("span", "", "not computed"));
    if (this.body.most !== null) legend.append(...this.drawEffects());
    return legend;
  }

  /* What the underlines say, at the size of the largest effect. */
  drawEffects() {
    const most = this.body.most.toPrecision(2);
    return [["l", `less likely by up to ${most} nats`], ["r", "likelier"]].flatMap(([sign, words]) => {
      const sample = element("span", `u ${sign}`, "token");
      sample.style.setProperty("--size", 1);
      return [sample, element("span", "", words)];
    });
  }

  drawSave() {
    return saveButton("Save all records as CSV", this.body.file, () => {
      const lines = [["band", ...this.body.csv, "position", "token", "value", "text"]];
      let at = 0;
      for (const band of this.body.bands)
        for (const end = at + band.n; at < end; at++) {
          const row = this.rows[at];
          lines.push([band.title, ...row.cells, row.peak, this.body.ids[row.index[row.peak]], row.value ?? "", this.source(row)]);
        }
      return lines;
    });
  }

  drawRow(at) {
    const row = this.rows[at];
    const line = element("div", "row");
    line.dataset.row = at;
    if (row.simulated) line.classList.add("simulated");
    const limit = this.view.scale === "text" ? Math.max(...Array.from(row.values, (v) => (v === -32768 ? 0 : Math.abs(v)))) * row.scale : row.limit ?? this.body.limit;
    const peak = this.value(row, row.peak) ?? 0;
    const chip = element("span", "chip", row.label ?? (this.text(row.index[row.peak]).trim() || "␣"));
    if (row.label) chip.title = row.label;
    chip.style.setProperty("--mark", peak < 0 ? "var(--na-negative-mark)" : "var(--na-mark)");
    chip.style.setProperty("--share", this.share(peak, limit).toFixed(3));
    chip.classList.toggle("zero", peak === 0);
    const lead = element("span", "lead");
    lead.append(chip);
    line.append(lead, element("span", "value", this.number(row.value, row.digits)), this.drawText(row, limit), this.drawActions(row));
    return line;
  }

  drawText(row, limit) {
    const [before, after] = SHOWN[this.view.window] ?? [row.n, row.n];
    const first = Math.max(0, row.peak - before);
    const last = Math.min(row.n - 1, row.peak + after);
    const aligned = this.view.window === "5";
    const text = element("div", "text");
    const left = aligned ? element("span", "left") : text;
    const right = aligned ? element("span", "right") : text;
    const inner = aligned ? element("span") : text;
    if (aligned) {
      left.append(inner);
      text.append(left, right);
    }
    if (first > 0) inner.append(element("span", "cut", "⋯"));
    for (let i = first; i <= last; i++) (i < row.peak ? inner : right).append(this.drawToken(row, i, limit));
    if (last < row.n - 1) right.append(element("span", "cut", "⋯"));
    if (this.view.window === "all") text.append(element("span", "where", row.where));
    return text;
  }

  drawToken(row, i, limit) {
    const token = element("span", i === row.peak ? "t peak" : "t", this.text(row.index[i]));
    const value = this.value(row, i);
    token.dataset.i = i;
    token.tabIndex = i === row.peak ? 0 : -1;
    if (value === null) token.classList.add("x");
    else if (value !== 0) {
      token.classList.add(value > 0 ? "p" : "n");
      token.style.setProperty("--share", this.share(value, limit).toFixed(3));
    }
    const effect = this.effect(row, i);
    const size = effect === null || !this.body.most ? 0 : Math.abs(effect) / this.body.most;
    if (size >= FAINT) {
      token.classList.add("u", effect < 0 ? "l" : "r");
      token.style.setProperty("--size", Math.sqrt(size).toFixed(3));
    }
    return token;
  }

  drawActions(row) {
    const actions = element("div", "acts");
    const copy = element("button", "", "copy");
    copy.type = "button";
    copy.title = "Copy this text";
    copy.onclick = async () => {
      await this.copy(this.source(row));
      copy.textContent = "copied";
      setTimeout(() => (copy.textContent = "copy"), 1500);
    };
    const where = element("span", "", row.where);
    where.title = row.where;
    actions.append(where, copy);
    if (this.body.try_address) {
      const link = element("a", "", "try");
      link.title = "Open this text on the page Try text";
      link.href = this.body.try_address + encodeURIComponent(this.source(row));
      link.target = "_self";
      actions.append(link);
    }
    return actions;
  }

  /* The row's exact text, from the bytes of its tokens. Special tokens stand for no text. */
  source(row) {
    const parts = Array.from(row.index, (piece) => {
      const raw = this.body.raw[piece];
      return raw === undefined ? encoder.encode(this.body.pieces[piece]) : hex(raw);
    });
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return decoder.decode(all);
  }

  async copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  choose(name, value) {
    if (this.view[name] === value) return;
    this.view = { ...this.view, [name]: value };
    this.draw();
    this.sent.push(JSON.stringify(this.view));
    this.bar.querySelector(`[data-choice="${name}-${value}"]`).focus();
    this.tell("view", this.view);
  }

  place(target) {
    const token = target.closest?.(".t");
    if (!token) return null;
    const at = Number(token.closest(".row").dataset.row);
    return { token, at, i: Number(token.dataset.i), row: this.rows[at] };
  }

  hover(target) {
    const place = this.place(target);
    if (!place) return this.hide();
    const { token, row, i } = place;
    const value = this.value(row, i);
    const shown = this.body.pieces[row.index[i]].replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍").replaceAll(" ", "␣").replaceAll("\u00a0", "⍽");
    const facts = element("div");
    facts.append(element("b", "", value === null ? "not computed" : this.number(value, row.digits)));
    facts.append(`${row.simulated ? " simulated" : ""} · token ${this.body.ids[row.index[i]]} · position ${i}`);
    this.tip.replaceChildren(element("code", "", shown), facts, ...this.drawChange(row, i), ...this.drawDistribution(row, i));
    this.tip.hidden = false;
    const box = token.getClientRects()[0] ?? token.getBoundingClientRect();
    const frame = this.root.getBoundingClientRect();
    const left = Math.min(Math.max(0, box.left - frame.left), Math.max(0, frame.width - this.tip.offsetWidth));
    const above = box.top - frame.top - this.tip.offsetHeight - 6;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${box.top - this.tip.offsetHeight - 6 < 0 ? box.bottom - frame.top + 6 : above}px`;
  }

  /* The effect on a token, in words: what follows from what stands before it. */
  drawChange(row, i) {
    const effect = this.effect(row, i);
    if (effect === null) return [];
    const factor = Math.exp(effect);
    const line = element("div");
    line.append(element("b", "", `${effect < 0 ? "−" : "+"}${Math.abs(effect).toFixed(3)}`), ` log-probability · × ${factor.toPrecision(3)}`);
    return [line];
  }

  /* How probable each integer from 0 to 10 is at a token, as small bars; nothing where that is not known. */
  drawDistribution(row, i) {
    if (!row.distribution) return [];
    row.hundredths ??= bytes(row.distribution);
    const count = row.hundredths.length / row.n;
    const chart = element("div", "odds");
    for (let value = 0; value < count; value++) {
      const share = row.hundredths[i * count + value];
      const column = element("span", "", String(value));
      column.style.setProperty("--share", `${share}%`);
      column.title = `${share} %`;
      chart.append(column);
    }
    return [chart];
  }

  hide() {
    this.tip.hidden = true;
  }

  click(event) {
    const place = this.place(event.target);
    if (place) this.fire("token", { row: place.at, index: place.i });
  }

  /* Arrows move among the tokens of a row and between rows; letters are left to the page. */
  key(event) {
    const place = this.place(event.target);
    if (!place) return;
    const { token, at, i } = place;
    const line = token.closest(".row");
    let next = null;
    if (event.key === "ArrowLeft") next = line.querySelector(`.t[data-i="${i - 1}"]`);
    else if (event.key === "ArrowRight") next = line.querySelector(`.t[data-i="${i + 1}"]`);
    else if (event.key === "ArrowUp") next = this.list.querySelector(`[data-row="${at - 1}"] .peak`);
    else if (event.key === "ArrowDown") next = this.list.querySelector(`[data-row="${at + 1}"] .peak`);
    else if (event.key === "Enter") this.click(event);
    else return;
    event.preventDefault();
    event.stopPropagation();
    next?.focus();
  }
}
