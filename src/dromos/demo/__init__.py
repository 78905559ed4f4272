"""The library's promises, shown on loopback in one command and half a minute.

    dromos demo

A gateway with short-lived tokens, a far side that closes a link when the token
it was opened with expires, and a bridge between them; then things go wrong, on
purpose and in order.  What is shown is counted on both sides, not claimed.
`dromos.demo.run.show` runs it.
"""
