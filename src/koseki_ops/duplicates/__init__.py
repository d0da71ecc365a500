"""The duplicates (副本) that go to the Minister of Justice's server, and what came of each (K-13).

`model` says what a row is: municipality × business day × kind (差分, 全件) × attempt, with its
counts, hash and state. `events` is what can be recorded of it, `rules` what may be recorded when,
`effects` what follows from it, `report` what is late or wrong: pure functions, to which time is
given. `history` keeps the events in the site's ledger, `layout` is the port towards the ministry's
layout (a stand-in of our own behind it), `adapter` puts files into the relay server's outbox and
reads its answers, `service` is what a person asks and decides, `cli` the command.
"""
