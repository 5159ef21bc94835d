"""The workload of a scenario: its tasks' holds, turned into page events in time order."""
