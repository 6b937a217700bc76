"""The lab: train real tasks with every optimizer under one stated protocol and report what came out."""
