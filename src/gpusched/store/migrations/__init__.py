"""Steps from one schema to the next, run by Alembic inside one transaction.

``migrate.py`` runs them; a step is a module of ``versions/``, and never changes once released.
"""
