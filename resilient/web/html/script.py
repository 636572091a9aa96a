"""What keeps an open page up to date: it swaps in the inner part that the server has made, and nothing else.

It listens to the stream of events, and asks again and again where there is none. While somebody types into a form of
the inner part, has a menu open, or looks at another tab, nothing is swapped.
"""

from __future__ import annotations

SCRIPT = """
(() => {
  "use strict";
  const main = document.getElementById("live"), said = document.getElementById("mode");
  const base = document.body.dataset.base;
  if (!main || !said || !window.fetch) return;
  let stream = null, timer = 0, last = 0, busy = false, again = false, fails = 0, streaming = false, mode = "";

  const words = { live: "Live", polling: "Updates every 5 s", paused: "Paused while you write",
    lost: "No answer; trying again" };
  const say = (now) => {
    if (now === mode) return;
    mode = now; said.dataset.mode = now; said.textContent = words[now];
  };
  const writing = () => {
    const one = document.activeElement;
    if (one && main.contains(one) && one.matches("input, select, textarea")) return true;
    return [...main.querySelectorAll("input")].some((field) => field.value !== field.defaultValue) ||
      [...main.querySelectorAll("select")].some((menu) => menu.selectedIndex > 0);
  };
  const swap = (html) => {
    const open = [...main.querySelectorAll("details[open][id]")].map((one) => one.id);
    const shut = [...main.querySelectorAll("details:not([open])[id]")].map((one) => one.id);
    const active = document.activeElement, focus = active && main.contains(active) ? active.id : "";
    const at = [window.scrollX, window.scrollY];
    main.innerHTML = html;
    for (const id of open) { const one = document.getElementById(id); if (one) one.open = true; }
    for (const id of shut) { const one = document.getElementById(id); if (one) one.open = false; }
    const again = focus && document.getElementById(focus);
    if (again) again.focus({ preventScroll: true });
    window.scrollTo({ left: at[0], top: at[1], behavior: "instant" });
  };
  const settle = () => say(fails ? "lost" : writing() ? "paused" : streaming ? "live" : "polling");
  const refresh = async () => {
    if (busy) { again = true; return; }
    if (document.hidden) return;
    if (writing()) { settle(); plan(1000); return; }
    busy = true; again = false; last = Date.now();
    try {
      const query = new URLSearchParams(location.search);
      query.delete("done"); query.set("fragment", "1");
      const signal = AbortSignal.timeout && AbortSignal.timeout(15000);
      const answer = await fetch(location.pathname + "?" + query,
        { credentials: "same-origin", cache: "no-store", signal });
      if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status));
      const html = await answer.text();
      if (!writing()) swap(html);
      fails = 0;
    } catch { fails += 1; }
    busy = false;
    settle();
    plan(again ? 1000 : streaming && !fails ? 3000 : 5000);
  };
  const plan = (wait) => { clearTimeout(timer); timer = setTimeout(refresh, wait); };
  const news = () => {
    if (busy) { again = true; return; }
    plan(Math.max(0, last + 1000 - Date.now()));
  };
  const listen = () => {
    if (!window.EventSource || stream) return;
    const mine = stream = new EventSource(base + "api/events?snapshot=0");
    mine.onopen = () => { streaming = true; settle(); news(); };
    mine.addEventListener("change", news);
    mine.addEventListener("dropped", news);
    mine.onerror = () => {
      streaming = false; settle(); news();
      if (mine.readyState === EventSource.CLOSED && stream === mine) {
        stream = null; setTimeout(() => { if (!document.hidden) listen(); }, 60000);
      }
    };
  };
  const stop = () => { if (stream) stream.close(); stream = null; streaming = false; clearTimeout(timer); };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop(); else { listen(); refresh(); }
  });
  window.addEventListener("pagehide", stop);
  main.addEventListener("focusout", () => setTimeout(() => { if (mode === "paused") refresh(); }, 0));
  say("polling"); listen(); plan(1000);
})();
"""
