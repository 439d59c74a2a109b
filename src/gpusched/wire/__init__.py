"""The network's edge: gRPC and the generated ``gpusched.v1`` are known here and nowhere else.

Callers give and get domain types only. It may import ``domain``. Read ``handlers.py`` first (the API
that a head serves), then ``convert.py`` (what travels as what); ``client.py`` is the public client.
"""
