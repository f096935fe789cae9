"""From outside to facts: what other servers send is verified here, before it is on the log."""
