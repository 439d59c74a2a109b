"""The handlers behind the services: who may do what, requests to the engine, reads from the store.

May import everything below floor 6; speaks domain types (grpc stays in ``wire``). Read
``jobs.py`` first.
"""
