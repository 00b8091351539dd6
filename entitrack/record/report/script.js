"use strict";
(() => {
  const root = document.documentElement, tip = document.getElementById("tip"), told = document.getElementById("told");
  let asked = null;
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = (y + box.height + 24 > innerHeight ? y - box.height - 12 : y + 16) + "px";
  };
  const show = (element, x, y) => {
    if (asked) asked.classList.remove("asked");
    asked = element;
    tip.textContent = element.dataset.tip;
    tip.classList.add("shown");
    place(x, y);
  };
  const hide = () => {
    if (asked) asked.classList.remove("asked");
    asked = null;
    tip.classList.remove("shown");
  };
  document.addEventListener("pointerover", (event) => {
    const element = event.target.closest && event.target.closest("[data-tip]");
    if (element) show(element, event.clientX, event.clientY);
    else if (asked) hide();
  });
  document.addEventListener("pointermove", (event) => { if (asked) place(event.clientX, event.clientY); });
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const figure = event.target.closest && event.target.closest("svg[tabindex]");
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!figure || !step) return;
    event.preventDefault();
    const all = [...figure.querySelectorAll("[data-tip]")];
    if (!all.length) return;
    const at = (Number(figure.dataset.at ?? (step > 0 ? -1 : 0)) + step + all.length) % all.length, next = all[at];
    figure.dataset.at = at;
    const box = next.getBoundingClientRect();
    show(next, box.x + box.width / 2, box.y + box.height / 2);
    next.classList.add("asked");
    told.textContent = next.dataset.tip;
  });
  document.addEventListener("focusout", hide);
  const themes = ["auto", "light", "dark"], button = document.getElementById("theme");
  const dress = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = "Colours: " + theme;
    button.dataset.now = theme;
  };
  button.hidden = false;
  button.addEventListener("click", () => dress(themes[(themes.indexOf(button.dataset.now) + 1) % themes.length]));
  dress(themes.includes(location.hash.slice(1)) ? location.hash.slice(1) : "auto");
  for (const choice of document.querySelectorAll("select.choose")) {
    choice.addEventListener("change", () => {
      for (const row of choice.closest("details").querySelectorAll("tbody tr"))
        row.hidden = choice.value !== "" && !row.dataset.wrong.split(" ").includes(choice.value);
    });
  }
})();
