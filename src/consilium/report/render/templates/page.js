"use strict";
// The page's own behaviour: sorting, tips, models on demand, and plots drawn when they are first seen.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const drawn = JSON.parse($("#drawn").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const OKABE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A7A00", "#777777"];
  const DASHES = ["solid", "dot", "dashdot", "longdash"];

  // ---- the matrix -------------------------------------------------------------------------------------------------
  const number = (row, key) => {
    const cell = row.querySelector(`td[data-column="${CSS.escape(key)}"]`);
    return cell && "value" in cell.dataset ? { value: +(cell.dataset.rank ?? cell.dataset.value), last: "unranked" in cell.dataset } : null;
  };
  const compare = (key, sign) => (a, b) => {
    if (key === "name") return sign * a.dataset.name.localeCompare(b.dataset.name) || a.dataset.order - b.dataset.order;
    const [x, y] = [number(a, key), number(b, key)];
    const rank = (entry) => (entry === null ? 2 : entry.last ? 1 : 0);
    return rank(x) - rank(y) || (x && y ? sign * (x.value - y.value) : 0) || a.dataset.order - b.dataset.order;
  };
  const sort = (button) => {
    const [head, table] = [button.closest("th"), button.closest("table")];
    const best = button.dataset.better === "high" ? "descending" : "ascending";
    const other = best === "ascending" ? "descending" : "ascending";
    const next = { none: best, [best]: other, [other]: "none" }[head.getAttribute("aria-sort")];
    all("thead th[aria-sort]", table).forEach((th) => th.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", next);
    const order = next === "none" ? (a, b) => a.dataset.order - b.dataset.order
      : compare(button.dataset.sort, next === "ascending" ? 1 : -1);
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  };
  all(".matrix button[data-sort]").forEach((button) => button.addEventListener("click", () => sort(button)));
  all("input[name=rows]").forEach((input) => input.addEventListener("change", () => {
    const wanted = { all: null, clean: "no", infected: "yes" }[input.value];
    all(".matrix tbody tr").forEach((row) => { row.hidden = wanted !== null && row.dataset.infected !== wanted; });
  }));

  // ---- tips: on hover, on focus, on tap -----------------------------------------------------------------------------
  const tip = Object.assign(document.createElement("div"), { id: "tip", hidden: true });
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  const show = (target) => {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const [box, own] = [target.getBoundingClientRect(), tip.getBoundingClientRect()];
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const below = box.bottom + own.height + 14 < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - own.height - 8)}px`;
  };
  const tipped = (event) => event.target instanceof Element && event.target.closest("[data-tip]");
  for (const kind of ["pointerover", "focusin", "click"]) {
    document.addEventListener(kind, (event) => { const target = tipped(event); if (target) show(target); else hide(); });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true, capture: true });

  // ---- boxes that scroll sideways say so ----------------------------------------------------------------------------
  const sideways = () => all(".scroll").forEach((box) => box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1));
  addEventListener("resize", sideways);
  addEventListener("toggle", sideways, true);  // a table in closed details has no width

  // ---- plots --------------------------------------------------------------------------------------------------------
  // The library lies in the page compressed (zlib, base64): it is unpacked once and run when a plot is first seen.
  let source = null;
  const unpack = async () => {
    const packed = Uint8Array.from(atob($("#plotly-source").textContent.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    source = await new Response(stream).text();
  };
  const unpacked = $("[data-figure]") || $("template") ? unpack() : Promise.resolve();
  const library = () => {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
  };
  const layout = (extra) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, showlegend: false, hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("soft") },
    margin: { l: 62, r: 18, t: 18, b: 52 }, ...extra,
    hoverlabel: { bgcolor: colour("ink"), font: { color: colour("paper") }, align: "left" },
  });
  const axis = (title, extra) => ({
    title: { text: title }, gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true, ...extra,
  });
  const config = { displaylogo: false, responsive: true, displayModeBar: false };

  const histogram = (host) => {
    const held = drawn.histograms[host.dataset.key];
    const steps = (y, name, stroke, dash) => ({  // outlines, not patterns: those print as large bitmaps
      x: held.x, y, name, mode: "lines", line: { color: stroke, width: 2.5, dash, shape: "hvh" },
      fill: "tozeroy", fillcolor: `${stroke}1a`, hovertemplate: `${name}: %{y:.1%} in tenth %{x}<extra></extra>`,
    });
    return [[steps(held.member, "members", OKABE[0], "solid"), steps(held.other, "non-members", OKABE[1], "dash")],
      layout({ showlegend: true, legend: { orientation: "h", y: 1.15 },
        xaxis: axis("tenth of all scores, lowest first", { dtick: 1 }), yaxis: axis("share", { tickformat: ".0%", rangemode: "tozero" }) })];
  };

  const curves = (host) => {
    const held = drawn.curves[host.dataset.key];
    const line = (y, name, style, extra) => ({
      x: held.round, y, name, mode: held.round.length > 1 ? "lines" : "markers", line: style, connectgaps: true,
      hovertemplate: `${name}, round %{x}: %{y:.3f}<extra></extra>`, ...extra,
    });
    const sites = Object.entries(held.sites).map(([site, y], i) => line(y, site, {
      color: OKABE[i % 8], width: 1.3, dash: DASHES[Math.floor(i / 8) % 4] }, { opacity: 0.75 }));
    const narrow = host.clientWidth < 560;
    const traces = [...sites, line(held.worst, "worst site", { color: colour("bad"), width: 2.5, dash: "dash" }),
      line(held.mean, "mean", { color: colour("ink"), width: 3 }),
      ...(held.backdoor.length ? [line(held.backdoor, "backdoor success", { color: colour("bad"), width: 3, dash: "dot" })] : []),
      line(held.loss, "mean loss", { color: colour("accent"), width: 2 }, { xaxis: "x2", yaxis: "y2", showlegend: false })];  // its axis names it
    const whole = { dtick: Math.max(1, Math.ceil(held.round.length / 10)) };
    const [left, right] = narrow ? [[0, 1], [0, 1]] : [[0, 0.62], [0.72, 1]];
    const [top, bottom] = narrow ? [[0.5, 1], [0, 0.34]] : [[0, 1], [0, 1]];
    if (narrow) host.style.height = "520px";
    return [traces, layout({ showlegend: true, legend: { orientation: "h", y: narrow ? -0.22 : -0.3, font: { size: 12 } },
      xaxis: axis(narrow ? "" : "round", { domain: left, anchor: "y", ...whole }),
      yaxis: axis("accuracy", { domain: top, anchor: "x" }),
      xaxis2: axis("round", { domain: right, anchor: "y2", ...whole }),
      yaxis2: axis("mean loss", { domain: bottom, anchor: "x2", rangemode: "tozero" }) })];
  };

  const roc = (host) => {
    const held = drawn.rocs[host.dataset.key];
    const said = "%{y:.2%} of members at %{x:.2%} of non-members";
    const line = (x, y, name, style) => ({ x, y, name, mode: "lines", line: style, hovertemplate: `${name}: ${said}<extra></extra>` });
    const attacks = held.curves.map((curve, i) => line(curve.x, curve.y, curve.name, {
      color: OKABE[i % 8], width: 2.2, dash: i < 8 ? "solid" : "dashdot" }));
    const chance = line(held.chance, held.chance, "chance", { color: colour("soft"), width: 1.5, dash: "dot" });
    const bound = held.bound ? [line(held.bound.x, held.bound.y, `ε = ${held.bound.epsilon} allows`, { color: colour("ink"), width: 2, dash: "dash" })] : [];
    const least = held.chance[0];
    const decades = Array.from({ length: Math.ceil(-Math.log10(least)) + 1 }, (_, i) => 10 ** -i);
    const parts = least > 0.2 ? [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3] : [1, 0.5, 0.2];  // three ticks or more
    const ticks = decades.flatMap((decade) => parts.map((part) => part * decade)).filter((tick) => tick >= 0.999 * least);
    const log = (title) => axis(`${title} (logarithmic)`, { type: "log", range: [Math.log10(least), 0], tickformat: "~%", tickvals: ticks });
    return [[...attacks, chance, ...bound], layout({ showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", font: { size: 12 } },
      xaxis: log("false positive rate: non-members taken for members"), yaxis: log("true positive rate: members taken for members") })];
  };

  const MARKS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "hexagon"];
  const bytes = (value) => { const [by, unit] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]].find(([size]) => value >= size) ?? [1, "B"]; return `${+(value / by).toPrecision(3)} ${unit}`; };
  const traffic = (host) => {
    const [narrow, every] = [host.clientWidth < 560, drawn.traffic.flatMap((held) => held.x)];
    const [first, last] = [Math.log10(Math.min(...every)), Math.log10(Math.max(...every))];
    const steps = narrow && last - first > 1.5 ? [1] : [1, 2, 5];
    const ticks = Array.from({ length: Math.ceil(last) - Math.floor(first) + 1 }, (_, i) => steps.map((step) => step * 10 ** (Math.floor(first) + i))).flat();
    const traces = drawn.traffic.flatMap((held, i) => {
      const [tone, end] = [OKABE[i % 8], held.end];
      const place = [held.x[held.x.length - 1], end.v];
      const between = end.l === null ? "" : ` (${end.l.toFixed(3)} – ${end.h.toFixed(3)})`;
      const name = `<b>${held.code}</b> ${safe(held.arm)}`;
      return [
        { x: held.x, y: held.y, mode: "lines", line: { color: tone, width: 2, dash: DASHES[Math.floor(i / 8) % 4] },
          hovertemplate: `${name}<br>%{customdata}: %{y:.3f}<extra></extra>`, customdata: held.x.map(bytes) },
        { x: [place[0]], y: [place[1]], mode: "markers+text", text: [held.code], textposition: "middle right", cliponaxis: false,
          textfont: { size: 12, color: colour("ink") }, marker: { color: tone, size: 10, symbol: MARKS[i % 8], line: { color: colour("card"), width: 1 } },
          error_y: { type: "data", symmetric: false, visible: end.l !== null, color: tone, thickness: 1.5, width: 4,
            array: [Math.max(0, end.h - end.v) || 0], arrayminus: [Math.max(0, end.v - end.l) || 0] },
          hovertemplate: `${name}<br>${bytes(place[0])} in all: %{y:.3f}${between}<extra></extra>` },
      ];
    });
    return [traces, layout({ margin: { l: 66, r: 42, t: 28, b: 58 },
      xaxis: axis(narrow ? "bytes sent by one site" : "bytes sent by one site so far (lower is better)", { type: "log", tickvals: ticks, ticktext: ticks.map(bytes) }),
      yaxis: axis("accuracy at the sites (higher is better)") })];
  };

  const tint = (hex, share) => `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${share})`;
  const lines = (host) => {  // figures over an amount of attack: a panel a measure, a line an arm
    const [held, narrow] = [drawn.lines[host.dataset.key], host.clientWidth < 560];
    const codes = [...new Set(held.panels.flatMap((panel) => panel.lines.map((line) => line.code)))];
    const traces = held.panels.flatMap((panel, k) => panel.lines.flatMap((line) => {
      const i = codes.indexOf(line.code);
      const [tone, on] = [OKABE[i % 8], { xaxis: k ? "x2" : "x", yaxis: k ? "y2" : "y", legendgroup: line.code }];
      const name = `<b>${line.code}</b> ${safe(line.arm)}${line.remark ? ` (${line.remark})` : ""}`;
      const whole = line.l.every((low) => low !== null);
      const band = { x: [...line.x, ...[...line.x].reverse()], y: [...line.h, ...[...line.l].reverse()], fill: "toself", fillcolor: tint(tone, 0.1),
        mode: "none", hoverinfo: "skip", showlegend: false, ...on };
      const bar = { type: "data", symmetric: false, thickness: 1.2, width: 3, color: tone, visible: !held.dense,
        array: line.h.map((h, j) => Math.max(0, h - line.y[j]) || 0), arrayminus: line.l.map((l, j) => (l === null ? 0 : Math.max(0, line.y[j] - l) || 0)) };
      const text = line.x.map((_, j) => (line.l[j] === null ? "no interval" : `${line.l[j].toFixed(3)} – ${line.h[j].toFixed(3)}`) + `, n = ${line.n[j]}`);
      return [...(held.dense && whole ? [band] : []), { x: line.x, y: line.y, name, text, mode: held.dense ? "lines" : "lines+markers", error_y: bar, showlegend: !k,
        line: { color: tone, width: 2.2, dash: line.remark ? "dot" : DASHES[Math.floor(i / 8) % 4] }, marker: { color: tone, size: 8, symbol: MARKS[i % 8] },
        hovertemplate: `${name}<br>at %{x:.4~g}: %{y:.3f} (%{text})<extra></extra>`, ...on }];
    }));
    const two = held.panels.length > 1 && !narrow;
    const [left, right] = two ? [[0, 0.46], [0.56, 1]] : [[0, 1], [0, 1]];
    const [top, bottom] = held.panels.length > 1 && narrow ? [[0.55, 1], [0, 0.42]] : [[0, 1], [0, 1]];
    const across = held.dense || held.panels.length < 2 ? {} : { dtick: 1 };
    const second = held.panels.length < 2 ? {} : { xaxis2: axis(held.x, { domain: right, anchor: "y2", ...across }),
      yaxis2: axis(held.panels[1].y, { domain: bottom, anchor: "x2", range: [-0.03, 1.03] }) };
    return [traces, layout({ showlegend: true, legend: { orientation: "h", y: -0.2, font: { size: 12 } }, margin: { l: 66, r: 24, t: 18, b: 58 },
      xaxis: axis(held.x, { domain: left, anchor: "y", rangemode: "tozero", ...across }),
      yaxis: axis(held.panels[0].y, { domain: top, anchor: "x", range: [-0.03, 1.03] }), ...second })];
  };

  // ---- the Pareto plot ----------------------------------------------------------------------------------------------
  const chosen = (id, fallback) => ($(`#pareto-${id}`) || { value: fallback }).value;
  const option = (key) => drawn.pareto.options.find((entry) => entry.key === key);
  const scale = (points, key) => {  // epsilon "none" stands to the right of every number, behind a gap
    const values = points.map((p) => p.figures[key]?.v).filter((v) => v !== null && v !== undefined);
    const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const none = key === "epsilon" ? high + Math.max(0.35 * (high - low), 0.25 * Math.abs(high), 0.5) : null;
    return { none, at: (p) => p.figures[key]?.v ?? none, high };
  };
  const front = (points, x, y) => {  // arms that no other arm beats in both; a loose bound or a collapse competes in none
    const good = (entry, value) => {  // below chance nothing is told: no less leakage than at chance
      const counted = entry.chance === null ? value : Math.max(value, entry.chance);
      return entry.better === "high" ? counted : -counted;
    };
    const fair = points.filter((p) => !p.collapsed && ![x, y].some((entry) => p.figures[entry.key]?.upper));
    return fair.filter((p) => !fair.some((q) => {
      const gains = [[x, "px"], [y, "py"]].map(([entry, k]) => good(entry, q[k]) - good(entry, p[k]));
      return gains.every((gain) => gain >= 0) && gains.some((gain) => gain > 0);
    })).sort((a, b) => a.px - b.px || a.py - b.py);
  };
  const written = (entry, figure) => {
    if (!figure || figure.v === null) return entry.key === "epsilon" ? "none (no DP)" : "–";
    const between = entry.style === "bytes" || !figure.between ? "" : ` (${figure.between})`;
    return (figure.at_most ? "≤ " : "") + figure.text + between;
  };
  const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const SIDES = ["top right", "bottom right", "top left", "bottom left"];
  const spread = (shown, key, s) => {  // on the epsilon axis whole groups of arms share a value: they stand side by side
    if (key !== "epsilon") return shown.map(() => 0);
    const range = Math.max(s.none - Math.min(...shown.map(s.at)), 1);
    return shown.map((p) => {
      const same = shown.filter((q) => s.at(q) === s.at(p));
      return (same.indexOf(p) - (same.length - 1) / 2) * range * Math.min(0.05, 0.3 / same.length);
    });
  };
  const bars = (p, key) => {
    const { v, l, h } = p.figures[key] ?? {};
    return { type: "data", symmetric: false, thickness: 1, width: 0, color: colour("soft"), visible: l != null && h != null,
      array: [Math.max(0, h - v) || 0], arrayminus: [Math.max(0, v - l) || 0] };
  };
  const pareto = (host) => {
    const held = drawn.pareto;
    const [x, y] = [option(chosen("x", held.x)), option(chosen("y", held.y))];
    const infection = chosen("infection", "none");
    const points = held.points.filter((p) => p.infected_by === infection);
    const [sx, sy] = [scale(points, x.key), scale(points, y.key)];
    points.forEach((p) => { p.px = sx.at(p); p.py = sy.at(p); });
    const shown = points.filter((p) => p.px !== null && p.py !== null)
      .sort((a, b) => (b.figures.bytes?.v ?? 0) - (a.figures.bytes?.v ?? 0));
    const best = front(shown, x, y);
    const most = Math.max(1, ...shown.map((p) => p.figures.bytes?.v ?? 0));
    const hover = (p) => [`<b>${p.code}</b> ${safe(p.arm)}${p.collapsed ? " (collapsed)" : ""}`,
      ...new Set([x, y, ...["epsilon", "bytes"].map(option).filter(Boolean)])].map((entry) => (typeof entry === "string"
        ? entry : `${safe(entry.label)}: ${written(entry, p.figures[entry.key])}`)).join("<br>");
    const order = [...shown].sort((a, b) => a.px - b.px || a.py - b.py);  // neighbours get letters on different sides
    const [dx, dy] = [spread(order, x.key, sx), spread(order, y.key, sy)];
    const mark = (p) => ({  // a trace of its own each, so that a letter stays with its mark where marks overlap
      x: [p.px + dx[order.indexOf(p)]], y: [p.py + dy[order.indexOf(p)]], ids: [p.code], mode: "markers+text",
      text: [p.code], textposition: SIDES[order.indexOf(p) % (x.key === "epsilon" ? 2 : 4)], hovertext: [hover(p)], hoverinfo: "text",
      cliponaxis: false, textfont: { size: 12, color: colour("ink") }, customdata: [p.cell],
      error_x: bars(p, x.key), error_y: bars(p, y.key),
      marker: {
        size: (host.clientWidth < 560 ? 9 : 12) * (1 + Math.sqrt((p.figures.bytes?.v ?? most / 4) / most)), opacity: 0.75,
        symbol: p.figures.epsilon?.v == null ? "circle" : "diamond",
        color: p.collapsed ? colour("card") : best.includes(p) ? "#0072B2" : "#6b7680",
        line: { color: p.collapsed ? colour("soft") : colour("card"), width: 1.5 },
      },
    });
    const line = { x: best.map((p) => p.px + dx[order.indexOf(p)]), y: best.map((p) => p.py + dy[order.indexOf(p)]), mode: "lines", hoverinfo: "skip",
      line: { color: colour("accent"), width: 2, dash: "dot" } };
    const named = (entry) => `${entry.label} ${entry.better === "high" ? "(higher is better)" : "(lower is better)"}`;
    const ticks = (s) => {
      if (s.none === null) return {};
      const texts = new Map(shown.map((p) => p.figures.epsilon).filter((f) => f?.v != null).map((f) => [f.v, f.text]));
      return { tickvals: [...texts.keys(), s.none], ticktext: [...texts.values(), "none (no DP)"] };
    };
    const divide = [["x", sx], ["y", sy]].filter(([, s]) => s.none !== null).map(([k, s]) => {
      const place = (s.none + s.high) / 2;
      const [from, to] = k === "x" ? [{ x0: place, x1: place }, { y0: 0, y1: 1, yref: "paper" }]
        : [{ y0: place, y1: place }, { x0: 0, x1: 1, xref: "paper" }];
      return { type: "line", ...from, ...to, line: { color: colour("line"), width: 1, dash: "dash" } };
    });
    host.dataset.points = shown.length;
    $("#pareto-front").textContent = best.length === 1 ? `front: ${best[0].code} alone` : `front: ${best.map((p) => p.code).join(", ") || "none"}`;
    return [[line, ...shown.map(mark)], layout({ shapes: divide, margin: { l: 66, r: 28, t: 28, b: 58 },
      xaxis: axis(named(x), ticks(sx)), yaxis: axis(named(y), ticks(sy)) })];
  };
  const painters = { pareto, curves, histogram, traffic, roc, lines };
  const draw = (host) => {
    if (source === null) { unpacked.then(() => { if (host.isConnected) draw(host); }); return; }
    library();
    const [traces, shape] = painters[host.dataset.figure](host);
    window.Plotly.react(host, traces, shape, config);
    host.dataset.done = "yes";
    if (host.dataset.figure !== "pareto") return;
    all(".points path.point", host).forEach((path, i) => { path.id = `pareto-point-${traces[i + 1].ids[0]}`; });
    host.removeAllListeners("plotly_click");
    host.on("plotly_click", (event) => { const cell = event.points[0].customdata; if (cell) location.hash = `cell-${cell}`; });
  };
  const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    seen.unobserve(entry.target);
    if (!entry.target.dataset.done) draw(entry.target);
  }), { rootMargin: "200px" });
  const watch = (root) => all("[data-figure]", root).forEach((host) => seen.observe(host));
  all("select[id^=pareto]").forEach((select) => select.addEventListener("change", () => draw($("#pareto"))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all("[data-done]").forEach(draw));

  // ---- models: one at a time, on screen as on paper --------------------------------------------------------------------
  const overview = $("#overview");
  const model = $("#model");
  const purge = (root) => all("[data-done]", root).forEach((host) => window.Plotly.purge(host));
  let place = 0;
  const route = () => {
    hide();
    const template = location.hash.startsWith("#cell-") && document.getElementById(location.hash.slice(1));
    const opened = template instanceof HTMLTemplateElement;
    const target = location.hash && !opened ? document.getElementById(location.hash.slice(1)) : null;
    if (opened && model.hidden) place = scrollY;
    const back = !opened && !model.hidden;
    purge(model);
    model.replaceChildren(...(opened ? [template.content.cloneNode(true)] : []));
    overview.hidden = opened;
    model.hidden = !opened;
    document.body.classList.toggle("reading", opened);
    sideways();
    if (opened) { watch(model); model.focus({ preventScroll: true }); scrollTo({ top: 0, behavior: "instant" }); }
    else if (back && location.hash === "#matrix") scrollTo({ top: place, behavior: "instant" });
    else if (back && target) target.scrollIntoView();
  };
  addEventListener("hashchange", route);
  addEventListener("beforeprint", () => {  // what stands on screen, with its words; configuration only where it was opened
    all("details.howto, details.claims").forEach((part) => { part.dataset.was = part.open ? "open" : ""; part.open = true; });
    all("[data-figure]", model.hidden ? overview : model).forEach((host) => {
      host.style.width = "880px";
      if (!host.dataset.done) draw(host);
      if (host.dataset.done) window.Plotly.relayout(host, { width: 880, autosize: false });
    });
  });
  addEventListener("afterprint", () => {
    all("details[data-was]").forEach((part) => { part.open = part.dataset.was === "open"; });
    all("[data-done]").forEach((host) => { host.style.width = ""; window.Plotly.relayout(host, { width: null, autosize: true }); });
  });
  watch(document);
  route();
  sideways();
})();
