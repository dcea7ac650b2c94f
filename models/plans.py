"""Conditions that leave a planner one way through a query, whatever it believes about the rows.

Statistics do not tell how the rows of two tables go together: one account has no share, another has twenty thousand, and a plan
made for either is a slow one for the other. A list reads its own index in order and asks the other tables row by row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, ColumnElement, Select, Subquery, false, func, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


def holds(query: Any, *, over: type[Any] | Subquery) -> ColumnElement[bool]:
    """Whether the query has a row, asked for each row of `over`: unlike EXISTS, it is never made a join."""
    found = query.with_only_columns(true(), maintain_column_froms=True).limit(1)
    return asked(found.correlate(over).scalar_subquery())


def asked(condition: Any) -> ColumnElement[bool]:
    """The condition, asked of every row that others leave: no index is used for it, and no list in it is made a join."""
    return func.coalesce(condition, false())


def among(column: Any, query: Any) -> ColumnElement[bool]:
    """Whether the column is one of the query's: unlike IN, the column's index is used for every one of them."""
    return _Among(column, query.scalar_subquery())


def in_order(query: Select[Any], *columns: Any) -> Subquery:
    """The rows by these columns, the greatest first, before any condition that is put on the result is asked."""
    return query.order_by(*(column.desc() for column in columns)).offset(0).subquery()


class _Among(FunctionElement[bool]):
    inherit_cache = True
    name = "among"
    type = Boolean()

    def self_group(self, against: Any = None) -> _Among:  # noqa: ARG002 - SQLAlchemy's signature
        """As it is: SQLite uses no index for what is compared with true."""
        return self


@compiles(_Among)  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]  # SQLAlchemy's is not annotated
def _in(element: _Among, compiler: Any, **options: Any) -> str:
    column, query = element.clauses
    return f"{compiler.process(column, **options)} IN {compiler.process(query, **options)}"


@compiles(_Among, "postgresql")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]  # as above
def _any(element: _Among, compiler: Any, **options: Any) -> str:
    column, query = element.clauses
    return f"{compiler.process(column, **options)} = ANY (ARRAY{compiler.process(query, **options)})"
