"""The whole system on one machine: a PostgreSQL of its own and a supervisor for the processes."""
