"""What a person sees of a run: a progress bar with loss, images/s and time left.

Where the output is not a terminal, a line now and then says the same.
"""

from __future__ import annotations

import math
import sys
import time

from sfumato.train.state import State


class Display:
    """Shows a run as it goes; silent where `shown` is false."""

    def __init__(self, state: State, progress: float, shown: bool) -> None:
        from tqdm import tqdm

        self.shown = shown
        self.terminal = shown and sys.stderr.isatty()
        self.bar = tqdm(
            total=1.0, initial=progress, disable=not self.terminal, bar_format="{percentage:3.0f}%|{bar}| {desc}"
        )
        self.start = (state.images, state.seconds, progress)
        self.drawn, self.printed, self.loss = 0.0, progress, 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def step(self, state: State, progress: float, loss: float) -> None:
        """After every step; draws a few times a second."""
        if not self.shown:
            return
        if math.isfinite(loss):
            self.loss += (loss - self.loss) * (0.02 if self.loss else 1.0)
        if self.terminal and time.perf_counter() - self.drawn > 0.25:
            self.drawn = time.perf_counter()
            self.bar.n = progress
            self.bar.set_description_str(self._text(state, progress), refresh=True)
        elif not self.terminal and progress - self.printed >= 0.05:
            self.printed = progress
            self.say(f"{progress:4.0%}  {self._text(state, progress)}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.terminal:
            self.bar.write(text)
        elif self.shown:
            print(text, flush=True)

    def _text(self, state: State, progress: float) -> str:
        images, seconds, first = self.start
        seconds = state.seconds - seconds
        rate = (state.images - images) / max(seconds, 1e-9)
        left = seconds * (1 - progress) / max(progress - first, 1e-9)
        return f"loss {self.loss:.4f}  {rate:,.0f} images/s  {state.images:,} images  {clock(left)} left"


def clock(seconds: float) -> str:
    """1:05 or 2:03:04."""
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
