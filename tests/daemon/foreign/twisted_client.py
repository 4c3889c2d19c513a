"""A subscriber made of Twisted's NetstringReceiver, for test_foreign_clients.py.

usage: twisted_client.py PORT

Its standard input is a socket, on which the test speaks lines: `send BASE64` sends a message, `end`
ends this side. The answers are `event BASE64` for what the relay sends, and `eof`. It ends when the
test closes the socket.
"""

import base64
import socket
import sys

from twisted.internet import protocol, reactor
from twisted.protocols.basic import LineReceiver, NetstringReceiver


class Subscriber(NetstringReceiver):
    def __init__(self, control):
        self.control = control

    def connectionMade(self):
        self.control.subscriber = self
        self.control.transport.resumeProducing()

    def stringReceived(self, string):
        self.control.sendLine(b"event " + base64.b64encode(string))

    def connectionLost(self, reason=protocol.connectionDone):
        self.control.sendLine(b"eof")


class Control(LineReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    subscriber = None

    def connectionMade(self):
        self.transport.pauseProducing()  # until the relay is there
        factory = protocol.ClientFactory()
        factory.buildProtocol = lambda address: Subscriber(self)
        reactor.connectTCP("127.0.0.1", int(sys.argv[1]), factory)

    def lineReceived(self, line):
        verb, _, payload = line.partition(b" ")
        if verb == b"send":
            self.subscriber.sendString(base64.b64decode(payload))
        else:
            self.subscriber.transport.loseWriteConnection()

    def connectionLost(self, reason=protocol.connectionDone):
        reactor.stop()


reactor.adoptStreamConnection(0, socket.AF_UNIX, protocol.Factory.forProtocol(Control))
reactor.run()
