"""What the dashboard knows and shows, without a terminal, a browser, a bus or a clock.

store/    the fold that all viewers share: items of the feed -> rows and sums
reader/   one viewer: what it follows, selects, types and asks, and what it can do
rows/     what each view shows, as typed rows; the documents of `--once --format json`
views/    a file a view: rows -> lines of (text, token)
screen/   keys -> commands -> effects, and the whole screen as lines
feed/     where items come from: the live bus, or a recording; how acts and questions go out
render/   lines, cells, charts, and numbers as people read them
once.py   one picture for scripts

Imports point downwards: screen and feed > views > rows > reader > render and store. Only the feed
knows the client and the loop.
"""
