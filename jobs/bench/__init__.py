"""Measurements that anybody can repeat: ``handloom bench``."""
