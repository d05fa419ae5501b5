"""A curve that grows in a notebook while a run trains: a callback of `rtj.train`.

    curve = LiveCurve(steps=config.train.steps, every=10)
    rtj.train(config, "runs/one", callbacks=[curve])

Needs IPython, which every notebook has, and the extra `plot`.
"""

import io
from collections.abc import Mapping, Sequence

from rtj.errors import ConfigError
from rtj.study.figures import figure_type


class LiveCurve:
    """Left the training loss, right the training top-1, against steps.

    The figure appears below the cell at the first call and is replaced in place. It is
    a PNG, so it does not matter which of matplotlib's backends the notebook uses, and
    what a saved notebook keeps is the last one.

    Args:
        steps: length of the run, the end of the horizontal axis.
        every: steps between two drawings, which take some 50 ms each; the last step
            is always drawn.
        names: two train metrics to draw.
        dpi: of the figure, which is 8 x 2.6 inches.

    Raises:
        ConfigError: matplotlib or IPython is not installed.
    """

    def __init__(
        self,
        *,
        steps: int,
        every: int = 10,
        names: Sequence[str] = ("loss", "top1"),
        dpi: int = 80,
    ) -> None:
        try:
            from IPython.display import DisplayHandle
        except ImportError as error:
            raise ConfigError(
                "IPython is missing; run this in a notebook, or pip install ipython"
            ) from error
        self._steps, self._every = steps, every
        self._handle = DisplayHandle()
        self._shown = False
        self.figure = figure_type()(figsize=(8, 2.6), dpi=dpi, layout="constrained")
        panels = self.figure.subplots(1, len(names), squeeze=False)[0]
        self._lines = {
            name: axes.plot([], [], lw=1)[0]
            for name, axes in zip(names, panels, strict=True)
        }
        for name, axes in zip(names, panels, strict=True):
            axes.set(xlabel="step", ylabel=f"training {name}", xlim=(0, steps))
            axes.grid(alpha=0.3)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of a step, and draws if it is time to."""
        for name, line in self._lines.items():
            xs, ys = line.get_data()
            line.set_data([*xs, step], [*ys, metrics[name]])
        if step % self._every == 0 or step == self._steps:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import Image

        for line in self._lines.values():
            line.axes.relim()
            line.axes.autoscale_view(scalex=False)
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        image = Image(buffer.getvalue(), format="png")
        if self._shown:
            self._handle.update(image)
        else:
            self._handle.display(image)
        self._shown = True
