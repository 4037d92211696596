"""The gateway: HTTP in front of the bus, with live push and a web page.

settings.py   where it listens and whom it believes
process.py    one process, or several that share a port
server.py     sockets, limits, the way to a route
gateway.py    what all requests of a process share: client, store, events, pictures, tokens
newest.py     the tasks of the store in the order of their submission
views.py      the dashboard's views as typed rows, made once for all who look
openapi.py    /openapi.json from the routes
http/         a call, the door, problems, the router
routes/       a file a subject: what is asked and what is answered
events/       what happens, as frames: the hub, server-sent events, web sockets
page/         what a browser is given, as it is

It is stateless beside the streams: any number of gateways serve at once, and nobody needs one. A
request that reads is answered from the followed store, or by a direct read; one that acts does what
the command line does (client/operate).
"""
