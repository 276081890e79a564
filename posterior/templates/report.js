"use strict";
const root = document.documentElement;
root.classList.add("js");

const theme = document.getElementById("theme");
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
label();

for (const item of document.querySelectorAll(".case:has(.stage)")) {
  const stage = item.querySelector(".stage");
  const cut = item.querySelector(".cut");
  const panels = [...item.querySelectorAll(".panel")];
  const show = (side, key) => {
    const panel = panels.find((p) => p.dataset.key === key);
    const from = panel.querySelector("img");
    const to = stage.querySelector("." + side);
    to.src = from.src;
    to.alt = from.alt;
    to.classList.toggle("coarse", from.classList.contains("coarse"));
    stage.querySelector(".tag-" + side).textContent = panel.dataset.title;
    item.querySelector(".choose-" + side).value = key;
    for (const p of panels) {
      const sides = new Set((p.dataset.side || "").split(" ").filter(Boolean));
      if (p === panel) sides.add(side); else sides.delete(side);
      p.dataset.side = [...sides].join(" ");
    }
  };
  for (const side of ["left", "right"]) {
    const choose = item.querySelector(".choose-" + side);
    for (const p of panels) choose.add(new Option(p.dataset.title, p.dataset.key));
    choose.addEventListener("change", () => show(side, choose.value));
  }
  for (const p of panels) p.querySelector("button").addEventListener("click", () => show("right", p.dataset.key));
  cut.addEventListener("input", () => stage.style.setProperty("--cut", cut.value + "%"));
  show("left", panels.some((p) => p.dataset.key === "measurement") ? "measurement" : panels[0].dataset.key);
  show("right", "estimate");
  item.querySelector(".viewer").hidden = false;
}
