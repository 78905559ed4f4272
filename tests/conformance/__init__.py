"""Autobahn's test suite, a fuzzing server that is not ours, against whole sessions of ours.

python -m tests.conformance             every case, and docs/conformance.md
python -m tests.conformance --reduced   what CI runs, in about a minute
"""
