"""HTTP/1.x in front of functions: bytes to `services.invoking.Invoker` and back, with nothing in between.

`server` owns the sockets, `connection` the bytes and the order of one client, `exchange` one request and its answer,
`intake` what a request head says, `answers` and `cors` how a head is written, `shared` what all connections use.
Every request costs callbacks only: no task, no future, one write.
"""
