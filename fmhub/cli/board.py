"""`fmhub leaderboard`: its commands lie beside this file, by what they are for."""

from __future__ import annotations

import click

from fmhub.cli.board_keep import declare, export, reference
from fmhub.cli.board_serve import hide, serve, submit, token
from fmhub.cli.board_show import overall, show
from fmhub.cli.board_trust import receipt, verify


class Board(click.Group):
    """Subcommands, and `show` for whatever is none: `fmhub leaderboard sentiment` shows that task's table."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Board)
def leaderboard() -> None:
    """Compare runs and baselines; without a subcommand, as `show`."""


for _command in (declare, export, hide, overall, receipt, reference, serve, show, submit, token, verify):
    leaderboard.add_command(_command)
