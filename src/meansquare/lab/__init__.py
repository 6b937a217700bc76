"""The lab: real tasks, every optimizer, one stated protocol, and a report of what came out."""
