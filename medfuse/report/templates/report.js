"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const swipe = document.querySelector(".swipe");
  if (swipe) {
    const stage = swipe.querySelector(".stage");
    const range = swipe.querySelector("input[type=range]");
    const choice = (name) => swipe.querySelector(`input[name=${name}]:checked`).value;
    const picture = (plane, source) => document.getElementById(`${plane}-${source}`).src;
    const cut = () => stage.style.setProperty("--cut", `${range.value}%`);
    const show = () => {
      const plane = choice("plane");
      const source = choice("source");
      swipe.querySelector(".over").src = picture(plane, source);
      swipe.querySelector(".under").src = picture(plane, "fused");
      swipe.querySelector(".tag.left").textContent = source;
    };
    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      const part = (event.clientX - box.left) / box.width;
      range.value = String(Math.round(Math.min(1, Math.max(0, part)) * 100));
      cut();
    };
    range.addEventListener("input", cut);
    all("input[type=radio]", swipe).forEach((radio) => radio.addEventListener("change", show));
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) drag(event);
    });
    show();
    cut();
    swipe.hidden = false;
  }

  const dialog = document.querySelector("dialog");
  const large = dialog.querySelector("img");
  all(".zoom").forEach((image) => image.addEventListener("click", () => {
    large.src = image.src;
    large.alt = image.alt;
    large.style.width = `${Math.round(image.naturalWidth * 1.6)}px`;
    dialog.showModal();
  }));
  dialog.addEventListener("click", () => dialog.close());

  window.addEventListener("beforeprint", () => {
    all("details.print").forEach((part) => { part.open = true; });
  });
})();
