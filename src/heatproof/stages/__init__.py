"""The arrows of the flow: each stage takes small frozen records and gives one."""
