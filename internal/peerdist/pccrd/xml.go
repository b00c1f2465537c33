package pccrd

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

const maxDepth = 16 // of elements (section 11, row 5)

type name = struct{ Space, Local string }

// node is an element. It is bounded by the size of a datagram.
type node struct {
	name     name
	attrs    []xml.Attr
	chars    string // its text, without that of its children
	parent   *node
	children []*node
}

// parse reads a document of elements, attributes and text: no document type, no instructions, and thus
// no entities but those of XML itself.
func parse(b []byte) (*node, error) {
	if len(b) > MaxDatagram {
		return nil, fmt.Errorf("a datagram of %d bytes", len(b))
	}
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(b, []byte("\ufeff"))))
	root := new(node)
	at, depth := root, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch v := token.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return nil, errors.New("a document that is too deep")
			}
			n := &node{name: name(v.Name), attrs: v.Attr, parent: at}
			at.children = append(at.children, n)
			at = n
		case xml.EndElement:
			at = at.parent
			depth--
		case xml.CharData:
			at.chars += string(v)
		case xml.Directive:
			return nil, errors.New("a document with a type")
		case xml.ProcInst:
			if v.Target != "xml" {
				return nil, errors.New("a document with instructions")
			}
		}
	}
	if len(root.children) != 1 {
		return nil, errors.New("no document")
	}
	return root.children[0], nil
}

// child returns the only child with a name, or nil.
func (n *node) child(space, local string) *node {
	var found *node
	for _, c := range n.children {
		if c.name == (name{space, local}) {
			if found != nil {
				return nil // which of them counts is what attacks are made of
			}
			found = c
		}
	}
	return found
}

// text returns the text of a child, without the blanks around it.
func (n *node) text(space, local string) (string, bool) {
	c := n.child(space, local)
	if c == nil {
		return "", false
	}
	return strings.TrimSpace(c.chars), true
}

// attr returns an attribute that is in no namespace.
func (n *node) attr(local string) string {
	for _, a := range n.attrs {
		if a.Name == (xml.Name{Local: local}) {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// resolve returns what namespace a prefix stands for at the node.
func (n *node) resolve(prefix string) string {
	for ; n != nil; n = n.parent {
		for _, a := range n.attrs {
			if a.Name == (xml.Name{Space: "xmlns", Local: prefix}) || prefix == "" && a.Name == (xml.Name{Local: "xmlns"}) {
				return a.Value
			}
		}
	}
	return ""
}

// version returns which format the node's Types stand for, 0 for none.
func (n *node) version() int {
	types := n.child(nsWSD, "Types")
	if types == nil {
		return 0
	}
	for _, t := range strings.Fields(types.chars) {
		prefix, local, ok := strings.Cut(t, ":")
		if !ok {
			prefix, local = "", t
		}
		for v, f := range formats {
			if local == f.local && types.resolve(prefix) == nsPeer {
				return v
			}
		}
	}
	return 0
}

// envelope reads a message with an action.
func envelope(b []byte, action string) (head, body *node, err error) {
	doc, err := parse(b)
	if err != nil {
		return nil, nil, err
	}
	if doc.name != (name{nsSOAP, "Envelope"}) {
		return nil, nil, errors.New("no envelope")
	}
	head, body = doc.child(nsSOAP, "Header"), doc.child(nsSOAP, "Body")
	if head == nil || body == nil {
		return nil, nil, errors.New("an envelope without a header or a body")
	}
	if a, _ := head.text(nsWSA, "Action"); a != action {
		return nil, nil, errors.New("another action")
	}
	return head, body, nil
}
