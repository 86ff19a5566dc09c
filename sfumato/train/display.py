"""What a person sees of a run: a progress bar with loss, images/s and time left; lines where the output is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from sfumato.train.config import TrainConfig


class Display:
    """Shows a run as it goes; silent where `shown` is false."""

    def __init__(self, config: TrainConfig, images: int, progress: float, shown: bool) -> None:
        from tqdm import tqdm

        self.config, self.shown = config, shown
        self.terminal = shown and sys.stderr.isatty()
        self.bar = tqdm(
            total=1.0, initial=progress, disable=not self.terminal, bar_format="{percentage:3.0f}%|{bar}| {desc}"
        )
        self.started, self.first_images, self.first_progress = time.perf_counter(), images, progress
        self.drawn, self.printed, self.loss = 0.0, progress, 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()

    def step(self, images: int, progress: float, loss: float) -> None:
        """After every step; draws a few times a second."""
        if not self.shown:
            return
        if loss == loss:  # not NaN
            self.loss += (loss - self.loss) * (0.02 if self.loss else 1.0)
        now = time.perf_counter()
        if self.terminal and now - self.drawn > 0.25:
            self.drawn = now
            self.bar.n = progress
            self.bar.set_description_str(self._text(images, progress, now), refresh=True)
        elif not self.terminal and progress - self.printed >= 0.05:
            self.printed = progress
            self.say(f"{progress:4.0%}  {self._text(images, progress, now)}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.terminal:
            self.bar.write(text)
        elif self.shown:
            print(text, flush=True)

    def _text(self, images: int, progress: float, now: float) -> str:
        seconds = now - self.started
        rate = (images - self.first_images) / seconds
        left = seconds * (1 - progress) / max(progress - self.first_progress, 1e-9)
        return f"loss {self.loss:.4f}  {rate:,.0f} images/s  {images:,} images  {clock(left)} left"


def clock(seconds: float) -> str:
    """1:05 or 2:03:04."""
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
