"""The orchestrator: supervisor, child processes, control socket, link shims, load, runner.

It is not the store: the lab starts nodes, breaks them and asks them, but never serves a key. The
package imports nothing by itself, because the zygote and the command line need it light.
"""
