"""Human ratings of a benchmark's results: blind pairs, a voting page, and the count.

    from ditlens.bench import votes

    votes.serve("outputs/bench")                              # people vote at http://127.0.0.1:8765/
    votes.export_static("outputs/bench", "outputs/study")     # or: a folder that needs no server
    votes.tally("outputs/bench")                              # win rates, strengths, agreement

A `Ballot` is what one voter is asked. How to run a study with people: docs/how-to/run_a_rating_study.md.
"""

from ditlens.bench.ballots import Ballot, Pair, Rules
from ditlens.bench.vote_export import export_static
from ditlens.bench.vote_server import make_server, serve
from ditlens.bench.vote_tally import report, tally

__all__ = ["Ballot", "Pair", "Rules", "export_static", "make_server", "report", "serve", "tally"]
