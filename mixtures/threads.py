"""Small linear algebra on one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


def one_thread(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The function with BLAS held to one thread while it runs.

    Matrices of a few hundred rows gain nothing by more; beside other work, threads that wait for each other take ten times as
    long; and another number of threads sums in another order, so that results would depend on the machine's cores.
    """

    @wraps(function)
    def held(*given: Given.args, **named: Given.kwargs) -> Result:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1, user_api="blas"):
            return function(*given, **named)

    return held
