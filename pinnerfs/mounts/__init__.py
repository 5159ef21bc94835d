"""Mount points: what is mounted where, who may mount there, and mount namespaces."""
