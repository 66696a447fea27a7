"""Human ratings of a benchmark's results: blind pairs, a voting page, and the count.

    from ditlens.bench import rating

    rating.serve("outputs/bench")                              # people vote at http://127.0.0.1:8765/
    rating.export_static("outputs/bench", "outputs/voting")    # or: a folder that needs no server
    rating.tally("outputs/bench")                              # win rates, strengths, agreement

A `Ballot` holds the pairs that one voter compares. How to run a rating: docs/how-to/run_a_rating.md.
"""

from ditlens.bench.rating.ballots import Ballot, Comparison, Rules
from ditlens.bench.rating.export import export_static
from ditlens.bench.rating.server import make_server, serve
from ditlens.bench.rating.tally import report, tally

__all__ = ["Ballot", "Comparison", "Rules", "export_static", "make_server", "report", "serve", "tally"]
