"""What `trace=true` costs: `python -m tests.trace_overhead [KEY=VALUE …]`.

Two sets of parties evaluate in turns, one of them traced, and the other way round with fresh parties:
what two sets differ by for as long as they live cancels. Prints the ratio of online times.
"""

import sys
from dataclasses import replace

from harness.config.compose import compose_run
from harness.config.schema import RunConfig
from harness.crew import Crew
from harness.evaluation import Course, phase_records
from harness.gate.ratio import paired
from harness.progress import make_progress
from harness.run import Run
from harness.runners.registry import make_runner

WORDS = ("experiment=argmax", "experiment.n=10000", "system=mpcformer", "shaper=none")
SETS = 6  # pairs of crews
WARMUP = 3


def online_ns(configs: tuple[RunConfig, RunConfig]) -> tuple[list[int], list[int]]:
    """Online times of both, evaluation by evaluation in turns, on crews of their own."""
    runs = [Run(config, make_progress()) for config in configs]
    crews = [Crew(make_runner(c.runner, False), c.threads, c.timeout_s) for c in configs]
    try:
        courses: list[Course] = []
        for run, crew in zip(runs, crews, strict=True):
            crew.start()
            courses.append(run.begin(crew))
        for number in range(WARMUP + configs[0].repeat):
            for course in courses[:: 1 if number % 2 else -1]:
                course.round("")
        first, second = (
            phase_records(course.end(WARMUP), {}, ("prepare", "offline", "input", "online"))[
                "online"
            ].wall_ns
            for course in courses
        )
        return first, second
    finally:
        for crew in crews:
            crew.close()


def main(words: list[str]) -> None:
    """Measure and print."""
    plain = compose_run([*WORDS, "repeat=20", *words])
    traced = replace(plain, trace=True)
    without, with_trace = list[int](), list[int]()
    for number in range(SETS):
        pair = (traced, plain) if number % 2 else (plain, traced)
        times = online_ns(pair)
        without += times[number % 2]
        with_trace += times[1 - number % 2]
    print(f"traced / not traced: {paired(without, with_trace)}, {len(without)} pairs")


if __name__ == "__main__":
    main(sys.argv[1:])
