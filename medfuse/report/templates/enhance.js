"use strict";
for (const trio of document.querySelectorAll(".trio")) {
  const after = trio.querySelector(".after"), own = after.src;
  after.addEventListener("pointerdown", () => { after.src = trio.querySelector(".before").src; });
  for (const end of ["pointerup", "pointerleave"]) after.addEventListener(end, () => { after.src = own; });
}
