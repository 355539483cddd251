"""The packet engine: worker threads that receive, log, rewrite and send packets in compiled code, and their control
side.
"""
