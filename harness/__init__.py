"""The run: recorder, supervisor, workspace, and the control channel of a running agent."""
