"""The whole system on one machine: its PostgreSQL, and a supervisor for the processes of the Procfile."""
