(() => {
  const facts = document.getElementById("viewer-facts");
  if (!facts) return;
  const told = JSON.parse(facts.textContent);
  const screen = document.querySelector(".viewer .screen");
  const [planes, projection] = screen.querySelectorAll("canvas");
  const control = (name) => document.querySelector(`.viewer [name=${name}]`);
  const tag = screen.querySelector(".tag");
  const [X, Y, Z] = told.shape;
  const count = X * Y * Z;
  const HEAD = 352; // bytes of a NIfTI-1 header
  const RGB24 = 128, RGBA32 = 2304;

  const unpack = async (id) => {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const read = async (name) => {
    if (!(name in told.files)) return null;
    const bytes = await unpack(`viewer-${name}`);
    const head = new DataView(bytes.buffer);
    return {
      head: bytes.slice(0, HEAD),
      shape: [42, 44, 46].map((at) => head.getInt16(at, true)),
      channels: head.getInt16(70, true) === RGB24 ? 3 : 1,
      values: bytes.subarray(HEAD),
    };
  };

  // Where the voxels of a coarser copy lie: two neighbors and the part of the second one.
  const steps = (fine, coarse) => Array.from({ length: fine }, (_, i) => {
    const at = Math.min(coarse - 1, Math.max(0, ((i + 0.5) * coarse) / fine - 0.5));
    const low = Math.floor(at);
    return [low, Math.min(low + 1, coarse - 1), at - low];
  });
  const enlarge = ({ shape: [x, y, z], channels, values }) => {
    if (x === X && y === Y && z === Z) return values;
    const across = steps(X, x), down = steps(Y, y);
    const out = new Uint8Array(count * channels), line = new Float32Array(x * channels);
    let at = 0;
    for (const [front, back, far] of steps(Z, z)) {
      for (const [top, bottom, low] of down) {
        const corner = (k, j) => (k * y + j) * x * channels;
        const a = corner(front, top), b = corner(front, bottom), c = corner(back, top), d = corner(back, bottom);
        for (let i = 0; i < line.length; i++) {
          const near = values[a + i] * (1 - low) + values[b + i] * low;
          line[i] = near * (1 - far) + (values[c + i] * (1 - low) + values[d + i] * low) * far;
        }
        for (const [left, right, part] of across) {
          for (let c = 0; c < channels; c++) {
            const value = line[left * channels + c] * (1 - part) + line[right * channels + c] * part;
            out[at++] = Math.round(value);
          }
        }
      }
    }
    return out;
  };

  const table = (hex) => Uint8Array.from(hex.match(/../g), (two) => parseInt(two, 16));
  // A byte of the functional image is the square root of a part of the range up to the highest value.
  const span = told.windows.functional ?? { low: 0, high: 1, top: 1, unit: "" };
  const uptake = (byte) => span.low + ((byte - 1) / 254) ** 2 * (span.top - span.low);
  const painted = ({ channels, fine }, colors) => {
    const rgba = new Uint8Array(4 * count);
    const color = Array.from({ length: 256 }, (_, byte) => {
      const part = (uptake(byte) - span.low) / (span.high - span.low);
      return 3 * Math.round(255 * Math.min(1, part));
    });
    for (let i = 0, o = 0; i < count; i++, o += 4) {
      if (channels === 3) {
        rgba.set([fine[3 * i], fine[3 * i + 1], fine[3 * i + 2], 255], o);
      } else if (fine[i]) {
        const c = color[fine[i]];
        rgba[o] = colors[c]; rgba[o + 1] = colors[c + 1]; rgba[o + 2] = colors[c + 2]; rgba[o + 3] = 255;
      }
    }
    return rgba;
  };
  const fused = (luminance, cb, cr) => {
    const rgba = new Uint8ClampedArray(4 * count);
    for (let i = 0, o = 0; i < count; i++, o += 4) {
      const y = luminance[i];
      const red = y + (cr[i] - 128) / 0.713, blue = y + (cb[i] - 128) / 0.564;
      rgba[o] = red; rgba[o + 1] = (y - 0.299 * red - 0.114 * blue) / 0.587; rgba[o + 2] = blue; rgba[o + 3] = 255;
    }
    return new Uint8Array(rgba.buffer);
  };
  const outlined = (labels) => {
    const rgba = new Uint8Array(4 * count);
    const sizes = [1, X, X * Y];
    const inks = (told.region_colors ?? []).map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    for (let i = 0; i < count; i++) {
      if (labels[i] && sizes.some((s) => labels[i - s] !== labels[i] || labels[i + s] !== labels[i])) {
        rgba.set([...(inks[labels[i] - 1] ?? [70, 225, 235]), 255], 4 * i);
      }
    }
    return rgba;
  };

  const start = async () => {
    // The script of the viewer lies packed in the page; the policy of the page knows its hash.
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpack("niivue"));
    document.head.append(script);
    const { Niivue, NVImage } = window.niivue;

    const names = ["anatomical", "functional", "functional_before", "luminance", "cb", "cr",
      "share", "expected_error", "regions"];
    const held = {};
    for (const name of names) held[name] = await read(name);
    for (const name of names.slice(0, 6)) if (held[name]) held[name].fine = enlarge(held[name]);
    const { anatomical, functional, functional_before: before } = held;

    const made = {};
    const once = (name, make) => (made[name] ??= make());
    const pictures = {
      fused: () => once("fused", () => fused(held.luminance.fine, held.cb.fine, held.cr.fine)),
      functional: (volume, name) => once(name, () => painted(volume, table(told.colors))),
      overlay: (volume, name) => once(`overlay ${name}`, () => painted(volume, table(told.overlay_colors))),
    };

    const viewer = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.59, 0.78, 1, 0.7], crosshairWidth: 0.5, fontColor: [0.94, 0.95, 0.97, 1],
      isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarLayout: 2, multiplanarShowRender: 0,
      dragAndDropEnabled: false, dragMode: 3, logLevel: "error", tileMargin: 2, isNearestInterpolation: false,
      viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", loadingText: "", scrollRequiresFocus: true,
    });
    await viewer.attachToCanvas(planes, false);
    const image = (kind, bits, values, opacity) => {
      const file = new Uint8Array(HEAD + values.length);
      file.set(anatomical.head);
      file.set(values, HEAD);
      const head = new DataView(file.buffer);
      head.setInt16(70, kind, true);
      head.setInt16(72, bits, true);
      return NVImage.new(file.buffer, "volume.nii", "gray", opacity, null, 0, 255);
    };
    viewer.addVolume(await image(2, 8, anatomical.values, 1));
    viewer.addVolume(await image(RGBA32, 32, pictures.fused(), 1));
    if (held.regions) viewer.addVolume(await image(RGBA32, 32, outlined(held.regions.values), 0));

    // What is under the mouse, or under the crosshair while the mouse is elsewhere.
    const m = told.inverse;
    const voxel = (mm) => m.slice(0, 3).map((row) => row[0] * mm[0] + row[1] * mm[1] + row[2] * mm[2] + row[3]);
    const world = (at) => told.affine.slice(0, 3).map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
    const nearest = (volume, at) => {
      const index = at.map((value, axis) => Math.floor(((value + 0.5) * volume.shape[axis]) / told.shape[axis]));
      if (index.some((value, axis) => value < 0 || value >= volume.shape[axis])) return null;
      return volume.values[(index[2] * volume.shape[1] + index[1]) * volume.shape[0] + index[0]];
    };
    const digits = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
    const inUnit = (value, unit, sign = "") => `${sign}${digits(value)} ${unit}`;
    const gray = (byte) => {
      const window = told.windows.anatomical;
      if (byte === null || !window) return "–";
      const { low, high, unit } = window;
      return inUnit(low + (byte / 255) * (high - low), unit, byte === 255 ? "≥ " : byte === 0 ? "≤ " : "");
    };
    const hot = (byte) => {
      if (byte === null || functional.channels === 3 || !told.windows.functional) return "–";
      if (byte === 0) return "outside the field of view";
      return inUnit(uptake(byte), span.unit, byte === 255 ? "≥ " : byte === 1 && span.low !== 0 ? "≤ " : "");
    };
    const tell = (mm) => {
      const at = voxel(mm);
      const place = ["LR", "PA", "IS"].map((ends, axis) => `${ends[+(mm[axis] >= 0)]} ${Math.abs(mm[axis]).toFixed(0)}`);
      const share = nearest(held.share, at);
      const error = held.expected_error && nearest(held.expected_error, at);
      const region = held.regions && nearest(held.regions, at);
      const rows = {
        place: `${place.join(", ")} mm`,
        anatomical: gray(nearest(anatomical, at)),
        functional: hot(nearest(functional, at)),
        share: share === null ? "–" : `${Math.round((100 * share) / 255)} %`,
        error: error === null ? "–" : error === 255 ? `more than ${Math.floor(254 * told.error_step_mm)} mm`
          : `${Math.ceil(error * told.error_step_mm)} mm`,
        region: region ? told.regions[region - 1] ?? `region ${region}` : "none",
      };
      for (const [name, text] of Object.entries(rows)) {
        const cell = document.querySelector(`.viewer [data-read=${name}]`);
        if (cell) cell.textContent = text;
      }
    };
    const crosshair = () => [...viewer.frac2mm(viewer.scene.crosshairPos, 0, true)].slice(0, 3);
    const go = (mm) => {
      viewer.scene.crosshairPos = viewer.mm2frac(mm, 0, true);
      viewer.createOnLocationChange();
      viewer.drawScene();
    };
    planes.addEventListener("mousemove", (event) => {
      const scale = planes.width / planes.clientWidth;
      const part = viewer.canvasPos2frac([event.offsetX * scale, event.offsetY * scale]);
      tell(part[0] < 0 ? crosshair() : [...viewer.frac2mm(part, 0, true)]);
    });
    for (const canvas of [planes, projection]) canvas.addEventListener("mouseleave", () => tell(crosshair()));

    // The maximum intensity projection, and for each of its pixels where the maximum is.
    const { axes: [depth, row, column], flips } = told.projection;
    const sizes = told.shape, strides = [1, X, X * Y];
    const along = (axis, flip, at) => (flip ? sizes[axis] - 1 - at : at);
    const deepest = new Int32Array(sizes[row] * sizes[column]);
    const values = functional.fine, channels = functional.channels;
    const heat = (at) => (channels === 3
      ? 0.299 * values[3 * at] + 0.587 * values[3 * at + 1] + 0.114 * values[3 * at + 2] : values[at]);
    const ground = new ImageData(sizes[column], sizes[row]);
    for (let r = 0, pixel = 0; r < sizes[row]; r++) {
      for (let c = 0; c < sizes[column]; c++, pixel++) {
        const line = along(row, flips[1], r) * strides[row] + along(column, flips[2], c) * strides[column];
        let best = line;
        for (let k = 1; k < sizes[depth]; k++) {
          if (heat(line + k * strides[depth]) > heat(best)) best = line + k * strides[depth];
        }
        deepest[pixel] = best;
        const light = 255 - Math.max(0, heat(best) - 1);
        ground.data.set([light, light, light, 255], 4 * pixel);
      }
    }
    const sheet = document.createElement("canvas");
    sheet.width = sizes[column];
    sheet.height = sizes[row];
    sheet.getContext("2d").putImageData(ground, 0, 0);
    const paint = projection.getContext("2d");
    const drawProjection = () => {
      const { width, height } = projection, at = voxel(crosshair());
      const x = ((along(column, flips[2], at[column]) + 0.5) / sizes[column]) * width;
      const y = ((along(row, flips[1], at[row]) + 0.5) / sizes[row]) * height;
      paint.drawImage(sheet, 0, 0, width, height);
      paint.fillStyle = "rgb(10 95 168)";
      paint.fillRect(0, Math.round(y), width, 1);
      paint.fillRect(Math.round(x), 0, 1, height);
    };
    const hottest = (event) => {
      const r = Math.floor((event.offsetY / projection.clientHeight) * sizes[row]);
      const c = Math.floor((event.offsetX / projection.clientWidth) * sizes[column]);
      const at = deepest[Math.min(sizes[row] - 1, Math.max(0, r)) * sizes[column] + Math.min(sizes[column] - 1, Math.max(0, c))];
      return world([at % X, Math.floor(at / X) % Y, Math.floor(at / (X * Y))]);
    };
    projection.addEventListener("mousemove", (event) => tell(hottest(event)));
    projection.addEventListener("click", (event) => go(hottest(event)));
    const arrange = () => {
      // The projection takes the place that the three planes leave free.
      const scale = planes.clientWidth / planes.width;
      const tiles = viewer.screenSlices.map((tile) => tile.leftTopWidthHeight.map((value) => value * scale));
      const [left, top, width, height] = tiles[0];
      const inRow = tiles.length < 3 || tiles.every((tile) => Math.abs(tile[1] - top) < 1);
      projection.hidden = inRow;
      const room = { left: left + width + 4, top: top, width: Math.max(...tiles.map((t) => t[0] + t[2])) - left - width - 4, height };
      const mm = told.spacing_mm;
      const tall = sizes[row] * mm[row], wide = sizes[column] * mm[column];
      const fit = Math.min(room.width / wide, room.height / tall);
      projection.width = Math.max(1, Math.floor(wide * fit));
      projection.height = Math.max(1, Math.floor(tall * fit));
      Object.assign(projection.style, { left: `${room.left}px`, top: `${room.top}px` });
      drawProjection();
    };

    let flicker = 0, isBefore = false;
    const show = () => {
      const shown = document.querySelector(".viewer [name=shown]:checked").value;
      const overlay = viewer.volumes[1];
      const volume = isBefore ? before : functional, name = isBefore ? "before" : "after";
      overlay.img = shown === "fused" || shown === "anatomical" ? pictures.fused() : pictures[shown](volume, name);
      overlay.opacity = shown === "anatomical" ? 0 : Number(control("blend").value) / 100;
      if (held.regions) viewer.volumes[2].opacity = control("contours").checked ? 1 : 0;
      control("blend").disabled = shown === "anatomical";
      const moves = before && (shown === "overlay" || shown === "functional");
      tag.textContent = moves ? `${name} registration` : "";
      tag.hidden = !moves;
      viewer.updateGLVolume();
    };
    const halt = () => {
      clearInterval(flicker);
      flicker = 0;
      isBefore = false;
      control("flicker")?.setAttribute("aria-pressed", "false");
    };
    document.querySelectorAll(".viewer [name=shown]").forEach((radio) => radio.addEventListener("change", () => {
      if (flicker && radio.value !== "overlay" && radio.value !== "functional") halt();
      control("blend").value = radio.value === "overlay" ? 50 : 100;
      show();
    }));
    control("blend").addEventListener("input", show);
    control("contours")?.addEventListener("change", show);
    control("flicker")?.addEventListener("click", (event) => {
      if (flicker) {
        halt();
      } else {
        const shown = document.querySelector(".viewer [name=shown]:checked");
        if (shown.value === "fused" || shown.value === "anatomical") {
          const mixed = ["overlay", "functional"].map((value) => document.querySelector(`.viewer [value=${value}]`));
          (mixed[0] ?? mixed[1]).checked = true;
          control("blend").value = 50;
        }
        event.currentTarget.setAttribute("aria-pressed", "true");
        isBefore = true;
        flicker = setInterval(() => { isBefore = !isBefore; show(); }, 700);
      }
      show();
    });

    viewer.onLocationChange = () => { tell(crosshair()); drawProjection(); };
    new ResizeObserver(() => { viewer.drawScene(); arrange(); }).observe(screen);
    document.querySelectorAll(".jump").forEach((button) => {
      button.hidden = false;
      button.addEventListener("click", () => {
        go(JSON.parse(button.dataset.mm));
        document.querySelector(".viewer").scrollIntoView({ block: "start" });
      });
    });
    show();
    go(told.spot_mm);
    arrange();
    document.querySelector(".viewer").dataset.ready = "yes";
  };

  const missing = () => {
    document.querySelector(".viewer .missing").hidden = false;
    document.querySelector(".viewer .works").hidden = true;
  };
  const test = document.createElement("canvas").getContext("webgl2");
  if (!test || !window.DecompressionStream) {
    missing();
    return;
  }
  test.getExtension("WEBGL_lose_context")?.loseContext();
  document.querySelector(".viewer .works").hidden = false;
  start().catch((error) => { missing(); console.error(error); });
})();
